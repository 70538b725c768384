//! Where one call goes.

use std::fmt::Write as _;

use http::header::{AUTHORIZATION, HeaderName, HeaderValue};

use crate::vendor::{Dialect, Vendor};

/// An endpoint of a client: OpenAI's, and Anthropic's Messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `POST /chat/completions`
    ChatCompletions,
    /// `POST /completions`
    Completions,
    /// `POST /embeddings`
    Embeddings,
    /// `POST /responses`
    Responses,
    /// `POST /moderations`
    Moderations,
    /// `POST /images/generations`
    ImagesGenerations,
    /// `POST /audio/speech`
    AudioSpeech,
    /// `POST /audio/transcriptions`
    AudioTranscriptions,
    /// `POST /audio/translations`
    AudioTranslations,
    /// Anthropic's `POST /messages`
    Messages,
    /// Anthropic's `POST /messages/count_tokens`
    CountTokens,
}

impl Endpoint {
    /// All endpoints.
    pub const ALL: [Self; 11] = [
        Self::ChatCompletions,
        Self::Completions,
        Self::Embeddings,
        Self::Responses,
        Self::Moderations,
        Self::ImagesGenerations,
        Self::AudioSpeech,
        Self::AudioTranscriptions,
        Self::AudioTranslations,
        Self::Messages,
        Self::CountTokens,
    ];

    /// Returns the path below the base URL, without a leading slash.
    pub const fn path(self) -> &'static str {
        match self {
            Self::ChatCompletions => "chat/completions",
            Self::Completions => "completions",
            Self::Embeddings => "embeddings",
            Self::Responses => "responses",
            Self::Moderations => "moderations",
            Self::ImagesGenerations => "images/generations",
            Self::AudioSpeech => "audio/speech",
            Self::AudioTranscriptions => "audio/transcriptions",
            Self::AudioTranslations => "audio/translations",
            Self::Messages => "messages",
            Self::CountTokens => "messages/count_tokens",
        }
    }

    /// Tells whether the client speaks Anthropic's dialect rather than OpenAI's.
    pub const fn is_anthropic(self) -> bool {
        matches!(self, Self::Messages | Self::CountTokens)
    }

    /// Tells whether a streamed answer is always one of events.
    pub const fn streams_events(self) -> bool {
        matches!(self, Self::ChatCompletions | Self::Completions | Self::Responses | Self::Messages)
    }

    /// Tells whether requests are `multipart/form-data` rather than JSON.
    pub const fn is_multipart(self) -> bool {
        matches!(self, Self::AudioTranscriptions | Self::AudioTranslations)
    }

    /// Tells whether the vendor charges for the tokens of an answer.
    pub const fn answers_tokens(self) -> bool {
        matches!(self, Self::ChatCompletions | Self::Completions | Self::Responses | Self::Messages)
    }

    /// Tells whether an unstreamed answer is always JSON.
    pub const fn answers_json(self) -> bool {
        !matches!(self, Self::AudioSpeech | Self::AudioTranscriptions | Self::AudioTranslations)
    }
}

/// The vendor has no such endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the model's provider has no such endpoint")]
pub struct Unsupported;

/// Where and under which name one call goes.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// Whose API it is.
    pub vendor: &'static Vendor,
    /// Absolute, without a trailing slash.
    pub base_url: &'a str,
    /// Azure's `api-version`, where one is configured.
    pub api_version: Option<&'a str>,
    /// The model or deployment the vendor is asked for.
    pub model: &'a str,
}

/// Azure's newest dated version for inference that is generally available.
/// <https://learn.microsoft.com/azure/ai-foundry/openai/api-version-lifecycle>
const AZURE_VERSION: &str = "2024-10-21";
/// The first dated version of Azure that has the responses API.
const AZURE_RESPONSES_VERSION: &str = "2025-03-01-preview";

impl Target<'_> {
    /// Returns the URL of `endpoint` at a vendor that speaks the client's own dialect.
    ///
    /// # Errors
    /// [`Unsupported`] if the vendor has no such endpoint or speaks another dialect.
    pub fn url(&self, endpoint: Endpoint) -> Result<String, Unsupported> {
        if !self.vendor.dialect.has(endpoint) {
            return Err(Unsupported);
        }
        Ok(match self.vendor.dialect {
            Dialect::OpenAi | Dialect::Gemini => format!("{}/{}", self.base_url, endpoint.path()),
            Dialect::Azure => self.azure_url(endpoint),
            Dialect::Anthropic => format!("{}/v1/{}", self.base_url, endpoint.path()),
        })
    }

    /// Azure has three families of URLs, told apart by the end of the base URL: `/openai/v1` (its own API version),
    /// `/models` (Foundry's inference API) and the classic one with a deployment in the path.
    fn azure_url(&self, endpoint: Endpoint) -> String {
        let path = endpoint.path();
        let versioned = |base: &str, version: &str| format!("{base}/{path}?api-version={version}");
        if self.base_url.ends_with("/openai/v1") {
            return match self.api_version {
                Some(version @ ("preview" | "latest")) => versioned(self.base_url, version),
                _ => format!("{}/{path}", self.base_url),
            };
        }
        if self.base_url.ends_with("/models") {
            return versioned(self.base_url, self.api_version.unwrap_or("2024-05-01-preview"));
        }
        let root = self.base_url.strip_suffix("/openai").unwrap_or(self.base_url);
        match self.api_version {
            Some("v1") => format!("{root}/openai/v1/{path}"),
            Some(version @ ("preview" | "latest")) => {
                versioned(&format!("{root}/openai/v1"), version)
            }
            version if endpoint == Endpoint::Responses => {
                let version = version.unwrap_or(AZURE_RESPONSES_VERSION);
                versioned(&format!("{root}/openai"), version)
            }
            version => {
                let mut base = format!("{root}/openai/deployments/");
                push_segment(&mut base, self.model);
                versioned(&base, version.unwrap_or(AZURE_VERSION))
            }
        }
    }

    /// Returns the headers that the vendor's dialect demands besides the credential.
    pub fn dialect_headers(&self) -> Vec<(HeaderName, HeaderValue)> {
        match self.vendor.dialect {
            Dialect::Anthropic => vec![crate::anthropic::version_header()],
            _ => Vec::new(),
        }
    }

    /// Returns the header that carries `credential`.
    ///
    /// # Errors
    /// If the credential has characters that a header cannot carry.
    pub fn credential(
        &self,
        credential: &str,
    ) -> Result<(HeaderName, HeaderValue), http::header::InvalidHeaderValue> {
        let (name, mut value) = match self.vendor.dialect {
            Dialect::OpenAi => {
                (AUTHORIZATION, HeaderValue::try_from(format!("Bearer {credential}"))?)
            }
            Dialect::Azure => {
                (HeaderName::from_static("api-key"), HeaderValue::try_from(credential)?)
            }
            Dialect::Anthropic => {
                (HeaderName::from_static("x-api-key"), HeaderValue::try_from(credential)?)
            }
            Dialect::Gemini => {
                (HeaderName::from_static("x-goog-api-key"), HeaderValue::try_from(credential)?)
            }
        };
        value.set_sensitive(true);
        Ok((name, value))
    }

    /// Tells whether the vendor understands a request for the usage of a stream.
    pub fn takes_stream_options(&self) -> bool {
        match self.vendor.dialect {
            Dialect::OpenAi => self.vendor.stream_usage == crate::StreamUsage::OnRequest,
            // Dated versions before September 2024 refuse the unknown field.
            Dialect::Azure => self.api_version.is_none_or(|version| {
                !version.starts_with("20")
                    || version.get(..7).is_some_and(|month| month >= "2024-09")
            }),
            Dialect::Anthropic | Dialect::Gemini => false,
        }
    }
}

/// Appends `text` as one percent-encoded path segment (RFC 3986: all but unreserved characters are encoded).
pub(crate) fn push_segment(url: &mut String, text: &str) {
    for &byte in text.as_bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            url.push(char::from(byte));
        } else {
            let _ = write!(url, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vendor;

    fn url(
        name: &str,
        base_url: &str,
        version: Option<&str>,
        model: &str,
        endpoint: Endpoint,
    ) -> String {
        let vendor = vendor(name).expect("known");
        Target { vendor, base_url, api_version: version, model }.url(endpoint).expect("supported")
    }

    #[test]
    fn compatible_vendors_get_the_path_below_their_base_url() {
        assert_eq!(
            url("groq", "https://api.groq.com/openai/v1", None, "m", Endpoint::ChatCompletions),
            "https://api.groq.com/openai/v1/chat/completions"
        );
    }

    #[test]
    fn azure_puts_the_deployment_into_the_path_as_one_segment() {
        assert_eq!(
            url(
                "azure",
                "https://r.openai.azure.com",
                Some("2024-06-01"),
                "my/dep 1",
                Endpoint::Embeddings
            ),
            "https://r.openai.azure.com/openai/deployments/my%2Fdep%201/embeddings?api-version=2024-06-01"
        );
        assert_eq!(
            url("azure", "https://r.openai.azure.com/openai", None, "d", Endpoint::ChatCompletions),
            "https://r.openai.azure.com/openai/deployments/d/chat/completions?api-version=2024-10-21"
        );
    }

    #[test]
    fn azures_responses_are_not_per_deployment() {
        assert_eq!(
            url("azure", "https://r.openai.azure.com", None, "d", Endpoint::Responses),
            "https://r.openai.azure.com/openai/responses?api-version=2025-03-01-preview"
        );
    }

    #[test]
    fn azures_other_families_are_known_by_their_base_url() {
        assert_eq!(
            url("azure", "https://r.openai.azure.com/openai/v1", None, "d", Endpoint::Responses),
            "https://r.openai.azure.com/openai/v1/responses"
        );
        assert_eq!(
            url(
                "azure",
                "https://r.openai.azure.com",
                Some("preview"),
                "d",
                Endpoint::ChatCompletions
            ),
            "https://r.openai.azure.com/openai/v1/chat/completions?api-version=preview"
        );
        assert_eq!(
            url(
                "azure",
                "https://r.services.ai.azure.com/models",
                None,
                "d",
                Endpoint::ChatCompletions
            ),
            "https://r.services.ai.azure.com/models/chat/completions?api-version=2024-05-01-preview"
        );
    }

    #[test]
    fn other_dialects_are_not_relayed() {
        for name in ["anthropic", "gemini"] {
            let vendor = vendor(name).expect("known");
            let target = Target { vendor, base_url: "https://x", api_version: None, model: "m" };
            assert_eq!(target.url(Endpoint::ChatCompletions), Err(Unsupported));
        }
    }

    #[test]
    fn old_azure_versions_are_not_asked_for_usage() {
        let vendor = vendor("azure").expect("known");
        for (version, takes) in [
            (None, true),
            (Some("2024-06-01"), false),
            (Some("2024-09-01-preview"), true),
            (Some("2025-01-01-preview"), true),
            (Some("preview"), true),
        ] {
            let target = Target { vendor, base_url: "https://x", api_version: version, model: "m" };
            assert_eq!(target.takes_stream_options(), takes, "{version:?}");
        }
    }
}
