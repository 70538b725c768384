//! What a request says about the cache: the header `x-llmux-cache` and the body's field `cache`.

use std::time::Duration;

use crate::json::{Json, Object, is, shallow};

/// What a request wants of the cache. It can only want less than the configuration gives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Controls {
    /// Do not answer from the cache; the new answer is kept.
    pub no_cache: bool,
    /// Do not keep the answer; a kept one may answer.
    pub no_store: bool,
    /// Keep the answer for at most this long. Zero: do not keep it.
    pub ttl: Option<Duration>,
}

/// A control that is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidControls(&'static str);

impl Controls {
    /// Reads a header's value: `no-cache`, `no-store`, `ttl=SECONDS`, several of them with commas between.
    ///
    /// # Errors
    /// [`InvalidControls`] if there is anything else in it.
    pub fn from_header(value: &str) -> Result<Self, InvalidControls> {
        const WRONG: InvalidControls =
            InvalidControls("the cache header takes `no-cache`, `no-store` and `ttl=SECONDS`");
        let mut controls = Self::default();
        for word in value.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            match word.split_once('=') {
                None if word.eq_ignore_ascii_case("no-cache") => controls.no_cache = true,
                None if word.eq_ignore_ascii_case("no-store") => controls.no_store = true,
                Some((name, seconds)) if name.trim().eq_ignore_ascii_case("ttl") => {
                    let seconds = seconds.trim().parse().map_err(|_| WRONG)?;
                    controls.shorten(Duration::from_secs(seconds));
                }
                _ => return Err(WRONG),
            }
        }
        Ok(controls)
    }

    /// Reads the member `cache` of a JSON body: an object with `no-cache`, `no-store` (booleans) and `ttl` (whole seconds),
    /// or null. A body without it, or that is no JSON object, controls nothing.
    ///
    /// # Errors
    /// [`InvalidControls`] if the member is there and something else.
    pub fn from_body(body: &[u8]) -> Result<Self, InvalidControls> {
        const WRONG: InvalidControls = InvalidControls(
            "`cache` takes `no-cache` and `no-store` (true or false) and `ttl` (whole seconds)",
        );
        let members = shallow(body).unwrap_or_default();
        let Some((_, text)) = members.into_iter().find(|(name, _)| is(name, "cache")) else {
            return Ok(Self::default());
        };
        let members: Object<'_> = match Json::parse(text.as_bytes()) {
            Some(Json::Object(members)) => members,
            Some(null) if null.is_null() => return Ok(Self::default()),
            _ => return Err(WRONG),
        };
        let mut controls = Self::default();
        for (name, value) in &members {
            let Json::Plain(word) = value else { return Err(WRONG) };
            let flag = || match &**word {
                "true" => Ok(true),
                "false" | "null" => Ok(false),
                _ => Err(WRONG),
            };
            if is(name, "no-cache") {
                controls.no_cache = flag()?;
            } else if is(name, "no-store") {
                controls.no_store = flag()?;
            } else if is(name, "ttl") {
                if word != "null" {
                    controls.shorten(Duration::from_secs(word.parse().map_err(|_| WRONG)?));
                }
            } else {
                return Err(WRONG);
            }
        }
        Ok(controls)
    }

    /// Adds those of another place: the stricter of both counts.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.no_cache |= other.no_cache;
        self.no_store |= other.no_store;
        if let Some(ttl) = other.ttl {
            self.shorten(ttl);
        }
        self
    }

    /// Returns how long an answer is kept where `configured` is the longest. `None`: it is not kept.
    pub fn keep_for(&self, configured: Duration) -> Option<Duration> {
        let ttl = self.ttl.map_or(configured, |ttl| ttl.min(configured));
        (!self.no_store && !ttl.is_zero()).then_some(ttl)
    }

    fn shorten(&mut self, ttl: Duration) {
        self.ttl = Some(self.ttl.map_or(ttl, |old| old.min(ttl)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_header_has_words_with_commas_between() {
        let read = |text| Controls::from_header(text).expect("valid");
        assert_eq!(read(""), Controls::default());
        assert_eq!(read("no-cache"), Controls { no_cache: true, ..Controls::default() });
        let all = Controls { no_cache: true, no_store: true, ttl: Some(Duration::from_secs(60)) };
        assert_eq!(read(" No-Store,ttl = 60 , no-cache"), all);
        for wrong in ["nocache", "ttl", "ttl=", "ttl=-1", "ttl=1.5", "ttl=1s", "no-cache=1"] {
            Controls::from_header(wrong).expect_err(wrong);
        }
    }

    #[test]
    fn a_body_has_an_object() {
        let read = |text: &str| Controls::from_body(text.as_bytes());
        assert_eq!(read(r#"{"model":"m"}"#), Ok(Controls::default()));
        assert_eq!(read(r#"{"cache":null}"#), Ok(Controls::default()));
        assert_eq!(read("no JSON"), Ok(Controls::default()));
        let all = Controls { no_cache: true, no_store: false, ttl: Some(Duration::from_secs(60)) };
        assert_eq!(
            read(r#"{"a":[{"cache":7}],"cache":{"no-cache":true,"no-store":false,"ttl":60}}"#),
            Ok(all)
        );
        for wrong in [
            "1",
            "true",
            "{\"ttl\":\"60\"}",
            "{\"ttl\":-1}",
            "{\"no-cache\":1}",
            "{\"s-maxage\":1}",
            "[]",
        ] {
            read(&format!("{{\"cache\":{wrong}}}")).expect_err(wrong);
        }
    }

    #[test]
    fn a_request_can_only_shorten() {
        let ttl =
            |seconds| Controls { ttl: Some(Duration::from_secs(seconds)), ..Controls::default() };
        assert_eq!(Controls::default().keep_for(HOUR), Some(HOUR));
        assert_eq!(ttl(60).keep_for(HOUR), Some(Duration::from_secs(60)));
        assert_eq!(ttl(7200).keep_for(HOUR), Some(HOUR));
        assert_eq!(ttl(0).keep_for(HOUR), None);
        assert_eq!(Controls { no_store: true, ..Controls::default() }.keep_for(HOUR), None);
        assert_eq!(ttl(60).and(ttl(5)).ttl, Some(Duration::from_secs(5)));
        assert!(Controls { no_cache: true, ..Controls::default() }.and(ttl(5)).no_cache);
    }
}
