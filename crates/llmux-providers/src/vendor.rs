//! The built-in table of vendors: what `providers[].type` may name.

use crate::anthropic::Anthropic;
use crate::codec::{ChatCodec, EmbeddingsCodec};
use crate::gemini::Gemini;
use crate::target::Endpoint;

/// The wire format that a vendor's endpoints speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// OpenAI's API, and everything compatible with it.
    OpenAi,
    /// Azure OpenAI: OpenAI's bodies under Azure's URLs and headers.
    Azure,
    /// Anthropic's Messages API.
    Anthropic,
    /// Google's `generateContent` API.
    Gemini,
}

impl Dialect {
    /// Tells whether vendors of this dialect have `endpoint` itself, in the client's own dialect.
    pub const fn has(self, endpoint: Endpoint) -> bool {
        match self {
            Self::OpenAi => !endpoint.is_anthropic(),
            Self::Azure => !endpoint.is_anthropic() && !matches!(endpoint, Endpoint::Moderations),
            Self::Anthropic => endpoint.is_anthropic(),
            Self::Gemini => false,
        }
    }

    /// Returns the codec for chat, where the dialect is not OpenAI's own.
    pub const fn chat_codec(self) -> Option<&'static dyn ChatCodec> {
        match self {
            Self::OpenAi | Self::Azure => None,
            Self::Anthropic => Some(&Anthropic),
            Self::Gemini => Some(&Gemini),
        }
    }

    /// Returns the codec for embeddings, where the dialect is not OpenAI's own and has them.
    pub const fn embeddings_codec(self) -> Option<&'static dyn EmbeddingsCodec> {
        match self {
            Self::OpenAi | Self::Azure | Self::Anthropic => None,
            Self::Gemini => Some(&Gemini),
        }
    }
}

/// Whether a vendor must be asked to send the usage of a stream (`stream_options.include_usage`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamUsage {
    /// Only who asks gets it.
    OnRequest,
    /// It comes anyway, and asking may be refused as an unknown field.
    Unasked,
}

/// One upstream vendor.
#[derive(Debug)]
pub struct Vendor {
    /// The value of `providers[].type`.
    pub name: &'static str,
    /// The wire format of its endpoints.
    pub dialect: Dialect,
    /// The base URL when the configuration names none; `None` where it must.
    pub base_url: Option<&'static str>,
    /// Whether a provider of this type is useless without an API key. False for servers that may run without one.
    pub key_required: bool,
    /// How streams get their usage.
    pub stream_usage: StreamUsage,
    /// Environment variables that enable this vendor when there is no configuration, first one wins.
    pub key_variables: &'static [&'static str],
    /// Well-known model names, offered when there is no configuration.
    pub models: &'static [&'static str],
}

/// Returns all vendors.
pub const fn vendors() -> &'static [Vendor] {
    VENDORS
}

/// Returns the vendor that `providers[].type` names.
pub fn vendor(name: &str) -> Option<&'static Vendor> {
    VENDORS.iter().find(|vendor| vendor.name == name)
}

/// An OpenAI-compatible vendor that needs a key.
const fn compatible(name: &'static str, base_url: &'static str) -> Vendor {
    Vendor {
        name,
        dialect: Dialect::OpenAi,
        base_url: Some(base_url),
        key_required: true,
        stream_usage: StreamUsage::OnRequest,
        key_variables: &[],
        models: &[],
    }
}

/// An OpenAI-compatible vendor whose URL contains the customer's account or workspace.
const fn account(name: &'static str) -> Vendor {
    Vendor { base_url: None, ..compatible(name, "") }
}

/// An OpenAI-compatible server on one's own machine.
const fn local(name: &'static str, base_url: &'static str) -> Vendor {
    Vendor { key_required: false, ..compatible(name, base_url) }
}

static VENDORS: &[Vendor] = &[
    Vendor {
        // Also for any compatible server that is not in this table, hence no key is needed.
        key_required: false,
        key_variables: &["OPENAI_API_KEY"],
        models: &[
            "gpt-5.1",
            "gpt-5",
            "gpt-5-mini",
            "gpt-5-nano",
            "gpt-4.1",
            "gpt-4.1-mini",
            "gpt-4o",
            "gpt-4o-mini",
            "o4-mini",
            "text-embedding-3-small",
            "text-embedding-3-large",
        ],
        ..compatible("openai", "https://api.openai.com/v1")
    },
    Vendor {
        dialect: Dialect::Azure,
        key_variables: &["AZURE_OPENAI_API_KEY"],
        ..account("azure")
    },
    Vendor {
        dialect: Dialect::Anthropic,
        key_variables: &["ANTHROPIC_API_KEY"],
        models: &[
            "claude-opus-5-5",
            "claude-sonnet-5-5",
            "claude-haiku-5-5",
            "claude-opus-4-5",
            "claude-sonnet-4-5",
            "claude-haiku-4-5",
        ],
        ..compatible("anthropic", "https://api.anthropic.com")
    },
    Vendor {
        dialect: Dialect::Gemini,
        key_variables: &["GOOGLE_API_KEY", "GEMINI_API_KEY"],
        models: &["gemini-2.5-pro", "gemini-2.5-flash", "gemini-2.5-flash-lite"],
        ..compatible("gemini", "https://generativelanguage.googleapis.com")
    },
    // The built-in fake vendor: without a `base_url` the server starts one in its own process.
    local("mock", "http://mock.invalid/v1"),
    compatible("avian", "https://api.avian.io/v1"),
    compatible("baichuan", "https://api.baichuan-ai.com/v1"),
    compatible("cerebras", "https://api.cerebras.ai/v1"),
    account("cloudflare"),
    compatible("crusoe", "https://api.inference.crusoecloud.com/v1"),
    account("databricks"),
    compatible("deepinfra", "https://api.deepinfra.com/v1/openai"),
    compatible("deepseek", "https://api.deepseek.com"),
    compatible("fireworks", "https://api.fireworks.ai/inference/v1"),
    compatible("github", "https://models.github.ai/inference"),
    local("gpustack", "http://localhost/v1"),
    compatible("groq", "https://api.groq.com/openai/v1"),
    compatible("huggingface", "https://router.huggingface.co/v1"),
    compatible("hyperbolic", "https://api.hyperbolic.xyz/v1"),
    local("lmstudio", "http://localhost:1234/v1"),
    compatible("minimax", "https://api.minimax.io/v1"),
    Vendor {
        // Recorded streams carry usage though nobody asked; older API versions refused `stream_options`.
        stream_usage: StreamUsage::Unasked,
        ..compatible("mistral", "https://api.mistral.ai/v1")
    },
    compatible("moonshot", "https://api.moonshot.cn/v1"),
    compatible("nebius", "https://api.studio.nebius.com/v1"),
    compatible("novita", "https://api.novita.ai/openai/v1"),
    compatible("nvidia", "https://integrate.api.nvidia.com/v1"),
    local("ollama", "http://localhost:11434/v1"),
    compatible("openrouter", "https://openrouter.ai/api/v1"),
    Vendor {
        stream_usage: StreamUsage::Unasked,
        ..compatible("perplexity", "https://api.perplexity.ai")
    },
    compatible("qwen", "https://dashscope.aliyuncs.com/compatible-mode/v1"),
    compatible("sambanova", "https://api.sambanova.ai/v1"),
    local("sglang", "http://localhost:30000/v1"),
    compatible("siliconflow", "https://api.siliconflow.cn/v1"),
    account("snowflake"),
    compatible("stepfun", "https://api.stepfun.com/v1"),
    compatible("together", "https://api.together.xyz/v1"),
    compatible("vercel", "https://ai-gateway.vercel.sh/v1"),
    local("vllm", "http://localhost:8000/v1"),
    compatible("volcengine", "https://ark.cn-beijing.volces.com/api/v3"),
    compatible("voyage", "https://api.voyageai.com/v1"),
    compatible("xai", "https://api.x.ai/v1"),
    compatible("zai", "https://api.z.ai/api/paas/v4"),
    compatible("zhipu", "https://open.bigmodel.cn/api/paas/v4"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_urls_have_no_trailing_slash() {
        for (index, vendor) in VENDORS.iter().enumerate() {
            assert!(
                VENDORS[..index].iter().all(|other| other.name != vendor.name),
                "{}",
                vendor.name
            );
            assert!(vendor.base_url.is_none_or(|url| !url.ends_with('/')), "{}", vendor.name);
        }
    }

    #[test]
    fn local_servers_need_no_key() {
        for name in ["ollama", "vllm", "lmstudio", "openai"] {
            assert!(!vendor(name).expect("known").key_required, "{name}");
        }
        assert!(vendor("deepseek").expect("known").key_required);
    }
}
