//! The built-in table of vendors: what `providers[].type` may name.

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

/// One upstream vendor.
#[derive(Debug)]
pub struct Vendor {
    /// The value of `providers[].type`.
    pub name: &'static str,
    /// The wire format of its endpoints.
    pub dialect: Dialect,
    /// The base URL when the configuration names none; `None` where it must.
    pub base_url: Option<&'static str>,
    /// Whether a provider of this type is useless without an API key. False for local servers.
    pub key_required: bool,
    /// Environment variables that enable this vendor when there is no configuration, first one wins.
    pub key_variables: &'static [&'static str],
    /// Well-known model names, offered when there is no configuration.
    pub models: &'static [&'static str],
}

const fn compatible(name: &'static str, base_url: &'static str) -> Vendor {
    Vendor {
        name,
        dialect: Dialect::OpenAi,
        base_url: Some(base_url),
        key_required: true,
        key_variables: &[],
        models: &[],
    }
}

const fn local(name: &'static str, base_url: &'static str) -> Vendor {
    Vendor {
        key_required: false,
        ..compatible(name, base_url)
    }
}

/// All vendors, sorted by name.
pub const fn vendors() -> &'static [Vendor] {
    VENDORS
}

/// Returns the vendor that `providers[].type` names.
pub fn vendor(name: &str) -> Option<&'static Vendor> {
    VENDORS.iter().find(|vendor| vendor.name == name)
}

static VENDORS: &[Vendor] = &[
    Vendor {
        name: "openai",
        dialect: Dialect::OpenAi,
        base_url: Some("https://api.openai.com/v1"),
        key_required: false,
        key_variables: &["OPENAI_API_KEY"],
        models: &["gpt-4o", "gpt-4o-mini"],
    },
    Vendor {
        name: "azure",
        dialect: Dialect::Azure,
        base_url: None,
        key_required: true,
        key_variables: &["AZURE_OPENAI_API_KEY"],
        models: &[],
    },
    Vendor {
        name: "anthropic",
        dialect: Dialect::Anthropic,
        base_url: Some("https://api.anthropic.com"),
        key_required: true,
        key_variables: &["ANTHROPIC_API_KEY"],
        models: &["claude-sonnet-4-5"],
    },
    Vendor {
        name: "gemini",
        dialect: Dialect::Gemini,
        base_url: Some("https://generativelanguage.googleapis.com"),
        key_required: true,
        key_variables: &["GOOGLE_API_KEY", "GEMINI_API_KEY"],
        models: &["gemini-2.5-flash"],
    },
    local("mock", "http://127.0.0.1:9090/v1"),
    compatible("deepseek", "https://api.deepseek.com"),
    local("ollama", "http://localhost:11434/v1"),
];
