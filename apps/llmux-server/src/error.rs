//! What clients are told when something goes wrong: the one place that turns causes into statuses.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ALLOW, CONNECTION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER,
};
use http::{Response, StatusCode};
use llmux_auth::limits::{BudgetExceeded, ScopeKind};
use llmux_auth::store::StoreError;
use llmux_auth::{Denied, Refused};
use llmux_providers::openai::Rejection;
use llmux_providers::{DecodeError, EncodeError, Invalid, StreamFailure, anthropic};
use llmux_router::{CooldownReason, Failure, NoRoute};
use llmux_types::{ErrorEnvelope, ErrorObject, FailureClass, Money, Secret};
use serde_json::Value;

use crate::metrics::Refusal;
use crate::upstream::SendError;

/// An answer in OpenAI's error envelope.
#[derive(Clone, Debug)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    pub(crate) error: Box<ErrorObject>,
    /// The vendor's own envelope, sent instead of one made from `error`.
    verbatim: Option<Bytes>,
    retry_after: Option<Duration>,
    allow: Option<String>,
    /// The connection cannot be used again: the rest of the request is still on it.
    close: bool,
    /// Why the gateway itself refused the request, if it did.
    pub(crate) refusal: Option<Refusal>,
    /// Headers for the client besides ours: the vendor's, renamed.
    headers: Box<HeaderMap>,
}

const INVALID: &str = "invalid_request_error";

impl ApiError {
    fn new(
        status: StatusCode,
        kind: &'static str,
        code: Option<&'static str>,
        message: impl Into<Cow<'static, str>>,
    ) -> Self {
        let error = ErrorObject {
            message: message.into().into_owned(),
            kind: kind.to_owned(),
            param: None,
            code: code.map(Value::from),
        };
        let retry_after = matches!(status.as_u16(), 429 | 503).then_some(Duration::from_secs(1));
        Self {
            status,
            error: Box::new(error),
            verbatim: None,
            retry_after,
            allow: None,
            close: false,
            refusal: None,
            headers: Box::default(),
        }
    }

    /// Says that the gateway itself refused the request.
    fn refused(self, refusal: Refusal) -> Self {
        Self { refusal: Some(refusal), ..self }
    }

    fn param(mut self, param: impl Into<String>) -> Self {
        self.error.param = Some(param.into());
        self
    }

    /// Tells clients not to try again. OpenAI's and Anthropic's know this header.
    fn never_again(mut self) -> Self {
        let name = HeaderName::from_static("x-should-retry");
        self.headers.insert(name, HeaderValue::from_static("false"));
        self
    }

    const fn closing(mut self) -> Self {
        self.close = true;
        self
    }

    pub(crate) fn invalid(param: &str, message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, INVALID, None, message).param(param)
    }

    pub(crate) fn model_not_found(model: &str) -> Self {
        let message =
            format!("The model `{model}` does not exist or you do not have access to it.");
        Self::new(StatusCode::NOT_FOUND, INVALID, Some("model_not_found"), message).param("model")
    }

    pub(crate) fn deployment_not_found(id: &str) -> Self {
        let message =
            format!("There is no deployment `{id}`; GET /control/deployments lists them.");
        Self::new(StatusCode::NOT_FOUND, INVALID, Some("deployment_not_found"), message)
            .param("deployment_id")
    }

    /// The configuration file is another than the administrator means.
    pub(crate) fn other_checksum(found: Option<&str>) -> Self {
        let found = found.unwrap_or("none");
        let message = format!("The configuration file has another checksum: {found}.");
        Self::new(StatusCode::CONFLICT, INVALID, Some("checksum_mismatch"), message)
            .param("expected_checksum")
    }

    /// The configuration files do not stay as they are for long enough to be read.
    pub(crate) fn configuration_changing() -> Self {
        let message = "The configuration files changed while they were read.";
        Self::new(StatusCode::CONFLICT, INVALID, Some("configuration_changing"), message)
    }

    /// The configuration file was not applied.
    pub(crate) fn invalid_configuration(problems: &[String]) -> Self {
        let message = format!("The configuration has problems: {}.", problems.join("; "));
        Self::new(StatusCode::BAD_REQUEST, INVALID, Some("invalid_configuration"), message)
    }

    pub(crate) fn not_permitted() -> Self {
        let message = "The API key must not do this.";
        Self::new(StatusCode::FORBIDDEN, "permission_error", Some("not_permitted"), message)
            .refused(Refusal::Role)
    }

    /// A change was made that is not in the audit log.
    pub(crate) fn not_audited(unavailable: bool) -> Self {
        let message = "The change was made, but it could not be written to the audit log.";
        let status = if unavailable {
            StatusCode::SERVICE_UNAVAILABLE
        } else {
            StatusCode::INTERNAL_SERVER_ERROR
        };
        Self::new(status, "api_error", Some("not_audited"), message)
    }

    pub(crate) fn unsupported_endpoint() -> Self {
        let message = "This endpoint is not available, or not for this model's provider.";
        Self::new(StatusCode::BAD_REQUEST, INVALID, Some("unsupported_endpoint"), message)
    }

    pub(crate) fn unknown_path(method: &http::Method, path: &str) -> Self {
        // The path is the client's own text, and may be long.
        let shown: String = path.chars().take(200).collect();
        let message = format!("Unknown request URL: {method} {shown}");
        Self::new(StatusCode::NOT_FOUND, INVALID, Some("unknown_url"), message)
    }

    /// `allow` lists the methods as the header does.
    pub(crate) fn method_not_allowed(allow: String) -> Self {
        let message = format!("This URL takes {allow} only.");
        let status = StatusCode::METHOD_NOT_ALLOWED;
        let error = Self::new(status, INVALID, Some("method_not_allowed"), message);
        Self { allow: Some(allow), ..error }
    }

    pub(crate) fn body_too_large(limit: usize) -> Self {
        let message = format!("The request body is larger than {limit} bytes.");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, INVALID, Some("request_too_large"), message)
            .closing()
    }

    pub(crate) fn body_too_slow() -> Self {
        let message = "The request body did not arrive in time.";
        Self::new(StatusCode::REQUEST_TIMEOUT, INVALID, Some("request_timeout"), message).closing()
    }

    pub(crate) fn body_broken() -> Self {
        Self::new(StatusCode::BAD_REQUEST, INVALID, None, "The request body was cut off.").closing()
    }

    pub(crate) fn encoded_body() -> Self {
        let message = "Encoded request bodies are not accepted; send it without content-encoding.";
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, INVALID, None, message)
    }

    pub(crate) fn shutting_down() -> Self {
        let message = "The gateway is shutting down.";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "api_error", Some("shutting_down"), message)
            .closing()
    }

    pub(crate) fn deadline() -> Self {
        Failed::deadline().into()
    }

    pub(crate) fn database_unavailable() -> Self {
        let message = "The database is not available at the moment.";
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self::new(status, "service_unavailable_error", Some("database_unavailable"), message)
    }

    pub(crate) fn spend_unknown() -> Self {
        let message = "What was spent so far is not known at the moment.";
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self::new(status, "service_unavailable_error", Some("database_unavailable"), message)
    }

    pub(crate) fn spool_full() -> Self {
        let message = "Usage cannot be recorded at the moment.";
        let status = StatusCode::SERVICE_UNAVAILABLE;
        Self::new(status, "service_unavailable_error", Some("spool_full"), message)
            .refused(Refusal::Spool)
    }

    pub(crate) fn price_unknown(model: &str) -> Self {
        let message = format!("The price of the model `{model}` is not known.");
        let status = StatusCode::FORBIDDEN;
        Self::new(status, "permission_error", Some("price_unknown"), message)
            .param("model")
            .refused(Refusal::Price)
    }

    pub(crate) fn max_tokens_required() -> Self {
        let message = "max_tokens required: the most that the model can answer is not known.";
        Self::new(StatusCode::BAD_REQUEST, INVALID, Some("max_tokens_required"), message)
            .param("max_tokens")
    }

    pub(crate) fn internal() -> Self {
        let message = "The gateway failed to handle the request.";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "api_error", Some("internal_error"), message)
    }

    /// Makes the response, without the headers that every response gets. `anthropic` says whose dialect the client
    /// speaks.
    pub(crate) fn response(self, anthropic: bool) -> Response<Bytes> {
        let ours = || {
            if anthropic {
                Bytes::from(anthropic::error_body(self.status.as_u16(), &self.error))
            } else {
                Bytes::from(ErrorEnvelope { error: &self.error }.to_json())
            }
        };
        let body = self.verbatim.clone().unwrap_or_else(ours);
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        *headers = *self.headers;
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(wait) = self.retry_after {
            // Whole seconds, rounded up: a client that comes too early is refused again.
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(allow) = self.allow.and_then(|allow| HeaderValue::try_from(allow).ok()) {
            headers.insert(ALLOW, allow);
        }
        if self.close {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

impl From<Denied> for ApiError {
    fn from(denied: Denied) -> Self {
        let (status, kind, code) = match denied {
            Denied::MissingKey
            | Denied::InvalidKey
            | Denied::ExpiredKey
            | Denied::BlockedKey
            | Denied::BlockedTeam => {
                (StatusCode::UNAUTHORIZED, "authentication_error", "invalid_api_key")
            }
            Denied::OriginNotAllowed => {
                (StatusCode::FORBIDDEN, "permission_error", "origin_not_allowed")
            }
        };
        let refusal = match denied {
            Denied::OriginNotAllowed => Refusal::Origin,
            Denied::BlockedTeam => Refusal::Key(ScopeKind::Team),
            _ => Refusal::Key(ScopeKind::Key),
        };
        Self::new(status, kind, Some(code), denied.to_string()).refused(refusal)
    }
}

impl From<Refused> for ApiError {
    fn from(refused: Refused) -> Self {
        let forbidden = |code, param| {
            let message = format!("{}.", capitalized(&refused.to_string()));
            let status = StatusCode::FORBIDDEN;
            Self::new(status, "permission_error", Some(code), message).param(param)
        };
        match refused {
            Refused::Route(_) => {
                let error = forbidden("model_not_allowed", "");
                let object = ErrorObject { param: None, ..*error.error };
                Self { error: Box::new(object), ..error }.refused(Refusal::Route)
            }
            Refused::Model { .. } => {
                forbidden("model_not_allowed", "model").refused(Refusal::Model)
            }
            Refused::Tag { .. } => forbidden("tag_not_allowed", "tags").refused(Refusal::Tag),
            Refused::Budget(exceeded) => exceeded.into(),
            Refused::Limit(exceeded) => {
                let message = format!("{}.", capitalized(&exceeded.to_string()));
                let status = StatusCode::TOO_MANY_REQUESTS;
                let code = Some("rate_limit_exceeded");
                let error = Self::new(status, "rate_limit_error", code, message);
                let retry_after = exceeded.retry_after.or(error.retry_after);
                let scope = exceeded.scope.kind;
                let error = Self { retry_after, ..error }.refused(Refusal::RateLimit(scope));
                if exceeded.permanent { error.never_again() } else { error }
            }
            Refused::Unknown(_) => Self::spend_unknown(),
        }
    }
}

impl From<BudgetExceeded> for ApiError {
    fn from(exceeded: BudgetExceeded) -> Self {
        // Why a call is refused though there is money left, is in what it may cost.
        let asked = if exceeded.is_used_up() {
            String::new()
        } else {
            format!(", at most {} US dollars", Money::from_nanos(exceeded.asked_nanos))
        };
        let message = format!(
            "{}{asked}: {} of {} US dollars are spent, and {} may be by calls under way.",
            capitalized(&exceeded.to_string()),
            Money::from_nanos(exceeded.settled_nanos),
            Money::from_nanos(exceeded.max_nanos),
            Money::from_nanos(exceeded.reserved_nanos),
        );
        let status = StatusCode::PAYMENT_REQUIRED;
        Self::new(status, "insufficient_quota", Some("budget_exceeded"), message)
            .never_again()
            .refused(Refusal::Budget(exceeded.scope.kind))
    }
}

fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        let refused = |status, code, param: &str, message: String| {
            Self::new(status, INVALID, Some(code), message).param(param)
        };
        match error {
            StoreError::NotFound { what, ref id } => {
                let id: String = id.chars().take(256).collect();
                let message = format!("There is no {what} `{id}`.");
                Self::new(StatusCode::NOT_FOUND, INVALID, Some("not_found"), message)
            }
            StoreError::Conflict { ref field } => {
                let message = format!("`{field}` is taken.");
                refused(StatusCode::CONFLICT, "conflict", field, message)
            }
            StoreError::MissingReference { ref field } => {
                let message = format!("`{field}` names nothing that exists.");
                refused(StatusCode::BAD_REQUEST, "reference_not_found", field, message)
            }
            StoreError::InUse { ref id, by } => {
                let message = format!("`{id}` still has {by}.");
                Self::new(StatusCode::CONFLICT, INVALID, Some("in_use"), message)
            }
            StoreError::Invalid { ref field, reason } => {
                let message = format!("`{field}` {reason}.");
                refused(StatusCode::BAD_REQUEST, "invalid_value", field, message)
            }
            StoreError::Unavailable { .. } => {
                tracing::error!(error = %chain(&error), "the database is not available");
                Self::database_unavailable()
            }
            _ => {
                tracing::error!(error = %chain(&error), "the database does not fit");
                Self::internal()
            }
        }
    }
}

/// An error with its causes, for the log.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

impl From<NoRoute> for ApiError {
    fn from(no_route: NoRoute) -> Self {
        let limited = |message| {
            let status = StatusCode::TOO_MANY_REQUESTS;
            Self::new(status, "rate_limit_error", Some("rate_limit_exceeded"), message)
        };
        let error = match no_route {
            NoRoute::Excluded => return Self::unsupported_endpoint(),
            NoRoute::Tags => {
                let message = "No deployment of the model has the request's tags.";
                let status = StatusCode::BAD_REQUEST;
                return Self::new(status, INVALID, Some("no_matching_deployment"), message)
                    .param("tags");
            }
            NoRoute::Busy => {
                limited("All deployments of the model have as many calls in flight as they may.")
                    .refused(Refusal::Deployments)
            }
            NoRoute::Limited { .. } => {
                limited("The limits per minute of all deployments of the model are used up.")
                    .refused(Refusal::Deployments)
            }
            NoRoute::Cooling { reason: CooldownReason::RateLimited, .. } => {
                limited("All providers of the model limit the rate of requests at the moment.")
            }
            NoRoute::Cooling { .. } => {
                let message = "All deployments of the model are out of use at the moment.";
                let status = StatusCode::SERVICE_UNAVAILABLE;
                let kind = "service_unavailable_error";
                Self::new(status, kind, Some("no_deployment_available"), message)
            }
        };
        let retry_after = no_route.retry_after().or(error.retry_after);
        let error = Self { retry_after, ..error };
        // A limit of 0 never has room.
        let never = no_route == (NoRoute::Limited { retry_after: None });
        if never { error.never_again() } else { error }
    }
}

impl From<EncodeError> for ApiError {
    fn from(error: EncodeError) -> Self {
        Self::new(StatusCode::BAD_REQUEST, INVALID, Some("unsupported_parameter"), error.message)
            .param(error.param)
    }
}

impl From<Invalid> for ApiError {
    fn from(invalid: Invalid) -> Self {
        let error = Self::new(StatusCode::BAD_REQUEST, INVALID, None, invalid.message);
        match invalid.param {
            Some(param) => error.param(param),
            None => error,
        }
    }
}

/// One attempt that got no answer for the client.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) class: FailureClass,
    pub(crate) retry_after: Option<Duration>,
    /// The vendor's words, where it had any.
    rejection: Option<Box<Rejection>>,
    /// Ours, for the log and for clients: nothing internal in it.
    pub(crate) message: Cow<'static, str>,
    /// The vendor's headers, renamed.
    pub(crate) headers: HeaderMap,
    /// The client's own time ran out, not the vendor's.
    deadline: bool,
}

impl Failed {
    pub(crate) fn new(class: FailureClass, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            class,
            retry_after: None,
            rejection: None,
            message: message.into(),
            headers: HeaderMap::new(),
            deadline: false,
        }
    }

    /// The time that the client gave its request is over.
    pub(crate) fn deadline() -> Self {
        let failed = Self::new(FailureClass::Timeout, "The request's time ran out.");
        Self { deadline: true, ..failed }
    }

    pub(crate) const fn is_deadline(&self) -> bool {
        self.deadline
    }

    pub(crate) fn timeout() -> Self {
        Self::new(FailureClass::Timeout, "The provider did not answer in time.")
    }

    pub(crate) fn rejected(rejection: Box<Rejection>) -> Self {
        let failed = Self::new(rejection.class, rejection.error.message.clone());
        let retry_after = rejection.retry_after;
        Self { rejection: Some(rejection), retry_after, ..failed }
    }

    /// Takes our own secrets out of the vendor's words: some repeat the credential that they refuse.
    pub(crate) fn redact(&mut self, secrets: &[Secret]) {
        const MASK: &str = "***";
        for secret in secrets.iter().map(Secret::expose) {
            if self.message.contains(secret) {
                self.message = self.message.replace(secret, MASK).into();
            }
            let Some(rejection) = &mut self.rejection else { continue };
            if rejection.error.message.contains(secret) {
                rejection.error.message = rejection.error.message.replace(secret, MASK);
            }
            let body = String::from_utf8_lossy(&rejection.body);
            if body.contains(secret) {
                rejection.body = body.replace(secret, MASK).into();
            }
        }
    }

    /// Returns the vendor's HTTP status, if it refused the call with one.
    pub(crate) fn status_code(&self) -> Option<u16> {
        self.rejection.as_ref().map(|rejection| rejection.status)
    }

    /// Says what the router needs to know of it.
    pub(crate) const fn failure(&self) -> Failure {
        Failure { class: self.class, retry_after: self.retry_after }
    }

    /// Returns the error object for an event in a stream that has begun.
    pub(crate) fn in_stream(&self) -> ErrorObject {
        match (&self.rejection, self.told()) {
            (Some(rejection), None) => rejection.error.clone(),
            (None, None) => *ApiError::internal().error,
            (_, Some((_, kind, code, message))) => {
                let message = message.to_owned();
                let code = Some(Value::from(code));
                ErrorObject { message, kind: kind.to_owned(), param: None, code }
            }
        }
    }

    /// Returns the status, type, code and message for a client; `None` where the vendor's own words pass.
    fn told(&self) -> Option<(StatusCode, &'static str, &'static str, &str)> {
        let (status, kind, code) = match self.class {
            FailureClass::Request
            | FailureClass::ContextWindow
            | FailureClass::ContentPolicy
            | FailureClass::Forbidden => return None,
            FailureClass::RateLimited => (429, "rate_limit_error", "rate_limit_exceeded"),
            FailureClass::Overloaded => (503, "service_unavailable_error", "upstream_overloaded"),
            FailureClass::Timeout if self.deadline => (504, "timeout_error", "timeout"),
            FailureClass::Timeout => (504, "timeout_error", "upstream_timeout"),
            FailureClass::Credential => {
                (502, "upstream_authentication_error", "upstream_authentication_error")
            }
            FailureClass::Connect => (502, "api_error", "upstream_unreachable"),
            FailureClass::Server => (502, "api_error", "upstream_error"),
            FailureClass::Malformed => (502, "api_error", "upstream_malformed"),
        };
        let message = if self.class == FailureClass::Credential {
            // The vendor's text may show a part of our key.
            "The provider refused the gateway's credential or account."
        } else {
            &self.message
        };
        Some((StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY), kind, code, message))
    }
}

impl From<SendError> for Failed {
    fn from(error: SendError) -> Self {
        let message = match &error {
            SendError::Connect(_) => "The provider cannot be reached.",
            SendError::Broken(_) => "The connection to the provider broke before it answered.",
        };
        Self::new(error.class(), message)
    }
}

impl From<DecodeError> for Failed {
    fn from(error: DecodeError) -> Self {
        Self::from(StreamFailure::from(error))
    }
}

impl From<StreamFailure> for Failed {
    fn from(failure: StreamFailure) -> Self {
        match failure {
            StreamFailure::Rejected(rejection) | StreamFailure::Told(rejection) => {
                Self::rejected(rejection)
            }
            StreamFailure::Malformed | StreamFailure::TooLong(_) => {
                Self::new(FailureClass::Malformed, "The provider's answer is malformed.")
            }
            StreamFailure::Truncated => {
                Self::new(FailureClass::Malformed, "The provider's stream ended too early.")
            }
        }
    }
}

impl From<Failed> for ApiError {
    /// Says what the client gets when this was the last attempt.
    fn from(failed: Failed) -> Self {
        let Some((status, kind, code, message)) = failed.told() else {
            return Self::vendors_own(failed);
        };
        let mut error = Self::new(status, kind, Some(code), message.to_owned());
        error.retry_after = failed.retry_after.or(error.retry_after);
        *error.headers = failed.headers;
        error
    }
}

impl ApiError {
    /// Passes a refusal on as the vendor put it.
    fn vendors_own(failed: Failed) -> Self {
        let Some(rejection) = failed.rejection else { return Self::internal() };
        let rejection = *rejection;
        Self {
            status: StatusCode::from_u16(rejection.status).unwrap_or(StatusCode::BAD_GATEWAY),
            error: Box::new(rejection.error),
            verbatim: Some(rejection.body),
            retry_after: failed.retry_after,
            allow: None,
            close: false,
            refusal: None,
            headers: Box::new(failed.headers),
        }
    }
}
