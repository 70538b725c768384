use std::fmt;

use llmux_types::Secret;
use serde::{Deserialize, Deserializer, Serialize, de};
use sha2::{Digest as _, Sha256};

/// The SHA-256 of a key in lower-case hexadecimal: all that is stored of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct KeyHash(String);

impl KeyHash {
    /// Hashes a key.
    pub fn of(key: &str) -> Self {
        Self(hex(&Sha256::digest(key.as_bytes())))
    }

    /// Takes a SHA-256.
    pub fn from_digest(digest: &[u8; 32]) -> Self {
        Self(hex(digest))
    }

    /// Takes 64 lower-case hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        is_hex(text, 64).then(|| Self(text.to_owned()))
    }

    /// Returns the 64 digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for KeyHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_hex(&String::deserialize(deserializer)?)
            .ok_or_else(|| de::Error::custom("a key's hash has 64 hexadecimal digits"))
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How a key is named where one is meant: by itself or its hash, by the id that survives a regenerate, or by its alias.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyRef {
    /// The hash (`token`).
    Hash(KeyHash),
    /// The id (`token_id`).
    TokenId(String),
    /// The alias (`key_alias`).
    Alias(String),
}

const ID_PREFIX: &str = "kid_";

impl KeyRef {
    /// Reads what a person or a program gave: a hash, an id, or else the key itself. Never an alias.
    pub fn parse(text: &str) -> Self {
        if let Some(hash) = KeyHash::from_hex(text) {
            Self::Hash(hash)
        } else if is_id(text) {
            Self::TokenId(text.to_owned())
        } else {
            Self::Hash(KeyHash::of(text))
        }
    }
}

/// A new credential. The secret is shown once; the store keeps the rest.
#[derive(Debug)]
pub struct NewKey {
    /// The key itself.
    pub secret: Secret,
    /// Its hash.
    pub token: KeyHash,
    /// Its masked form.
    pub key_name: String,
}

/// A key of somebody's own choice is too short, or looks like a hash or an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a key of one's own needs at least 32 characters and must look neither like a hash nor like an id"
)]
pub struct ShortKey;

impl NewKey {
    /// Makes `sk-` and 32 random bytes in URL-safe base64.
    pub fn generate(random: [u8; 32]) -> Self {
        Self::new(format!("sk-{}", base64(&random)))
    }

    /// Takes a key of somebody's own choice.
    ///
    /// # Errors
    /// [`ShortKey`] if it has fewer than 32 characters, or could be taken for a key's hash or id.
    pub fn own(key: String) -> Result<Self, ShortKey> {
        if key.chars().count() < 32 || is_hex(&key, 64) || is_id(&key) {
            return Err(ShortKey);
        }
        Ok(Self::new(key))
    }

    /// Makes the id of a new key: random, and kept when its secret is replaced.
    pub fn token_id(random: [u8; 16]) -> String {
        format!("{ID_PREFIX}{}", hex(&random))
    }

    fn new(key: String) -> Self {
        Self { token: KeyHash::of(&key), key_name: mask(&key), secret: Secret::new(key) }
    }
}

/// Masks a key: `sk-...abcd`. A key under 32 characters shows nothing.
pub fn mask(key: &str) -> String {
    let prefix = if key.starts_with("sk-") { "sk-" } else { "" };
    if key.chars().count() < 32 {
        return format!("{prefix}...");
    }
    let skip = key.chars().count() - 4;
    format!("{prefix}...{}", key.chars().skip(skip).collect::<String>())
}

fn is_id(text: &str) -> bool {
    text.strip_prefix(ID_PREFIX).is_some_and(|rest| is_hex(rest, 32))
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// Bytes in lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| char::from(DIGITS[usize::from(digit)]))
        .collect()
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// URL-safe base64 without padding.
fn base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |index: usize| u32::from(chunk.get(index).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for shift in [18, 12, 6, 0].iter().take(chunk.len() + 1) {
            text.push(char::from(ALPHABET[(bits >> shift & 63) as usize]));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_key_is_32_random_bytes_in_url_safe_base64() {
        let key = NewKey::generate([0xfb; 32]);
        assert_eq!(key.secret.expose(), "sk--_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_v7-_s");
        assert_eq!(key.token, KeyHash::of(key.secret.expose()));
        assert_eq!(key.key_name, "sk-...7-_s");
        assert!(!format!("{key:?}").contains("v7-_v7"));
    }

    #[test]
    fn the_hash_is_sha_256_in_hex() {
        let hash = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(KeyHash::of("abc").as_str(), hash);
        assert_eq!(KeyRef::parse(hash), KeyRef::parse("abc"));
        assert_eq!(KeyHash::from_hex(&hash.to_uppercase()), None);
    }

    #[test]
    fn ids_are_told_from_keys() {
        let id = NewKey::token_id([7; 16]);
        assert_eq!(KeyRef::parse(&id), KeyRef::TokenId(id.clone()));
        assert_eq!(NewKey::own(id).err(), Some(ShortKey));
        assert_eq!(NewKey::own("a".repeat(64)).err(), Some(ShortKey));
        assert_eq!(NewKey::own("x".repeat(31)).err(), Some(ShortKey));
        assert!(NewKey::own("x".repeat(32)).is_ok());
    }

    #[test]
    fn a_mask_shows_little_of_a_long_key_and_nothing_of_a_short_one() {
        assert_eq!(mask(&format!("sk-{}", "x".repeat(40))), "sk-...xxxx");
        assert_eq!(mask(&"é".repeat(40)), "...éééé");
        assert_eq!(mask("sk-1234"), "sk-...");
    }
}
