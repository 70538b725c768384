use std::fmt;

use serde::{Deserialize, Deserializer};

/// A credential that is never printed: `Debug` shows `***`, and there is no `Display` and no `Serialize`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a credential.
    pub fn new(value: impl Into<String>) -> Self {
        Self(value.into())
    }

    /// Returns the credential itself. Name it only where it goes onto the wire or into a hash.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Tells whether the credential is the empty string.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl<'de> Deserialize<'de> for Secret {
    /// Reads a string. The error of a wrong type names the expected type only, never the value.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)
            .map(Self)
            .map_err(|_| serde::de::Error::custom("expected a string"))
    }
}

#[cfg(test)]
mod tests {
    use super::Secret;

    #[test]
    fn debug_hides_the_value() {
        assert_eq!(format!("{:?}", Secret::new("sk-12345")), "***");
    }

    #[test]
    fn a_wrong_type_is_refused_without_the_value() {
        let error = serde_json::from_str::<Secret>("12345").expect_err("a number is no secret");
        assert!(!error.to_string().contains("12345"), "{error}");
    }
}
