//! Reads and checks the fields of requests. What is not known is refused by name, and so is what is known elsewhere and
//! not here, unless it says nothing.

use llmux_auth::store::{Answer, Listed, Page};
use llmux_auth::tenants::{
    KeyType, MemberRole, ModelBudget, Money, OrganizationRole, Period, Role, UnixMillis,
};
use serde::de::DeserializeOwned;
use serde_json::{Map, Number, Value};

use crate::error::ApiError;
use crate::routes::decoded;

/// The longest id, name or alias, in bytes.
const MAX_NAME: usize = 256;

/// The most objects that one request names.
const MAX_NAMED: usize = 1000;

/// What a field may hold besides `null`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A text of 1 to 256 bytes without control characters.
    Name,
    /// A list of such texts.
    Names,
    /// A whole number from 0 on.
    Limit,
    /// Such numbers by model.
    Limits,
    /// US dollars from 0 on.
    Money,
    /// Budgets by model.
    Budgets,
    /// A budget's duration.
    Period,
    /// A point in time.
    Time,
    /// `true` or `false`.
    Flag,
    /// Any JSON object.
    Object,
    /// What a key is for.
    KeyType,
    /// What a user may do.
    Role,
    /// What a member may do in a team.
    MemberRole,
    /// What a member may do in an organization.
    OrganizationRole,
}

/// Fields and what they may hold.
pub(super) type Known = [(&'static str, Kind)];

/// What a budget has.
pub(super) const BUDGET: &Known = &[
    ("max_budget", Kind::Money),
    ("soft_budget", Kind::Money),
    ("budget_duration", Kind::Period),
    ("model_max_budget", Kind::Budgets),
];

/// What limits have.
pub(super) const LIMITS: &Known = &[
    ("models", Kind::Names),
    ("rpm_limit", Kind::Limit),
    ("tpm_limit", Kind::Limit),
    ("max_parallel_requests", Kind::Limit),
    ("model_rpm_limit", Kind::Limits),
    ("model_tpm_limit", Kind::Limits),
];

/// What clients of LiteLLM send and this gateway does not have. Without a meaning, as they often are, they pass.
const NOT_SUPPORTED: &[&str] = &[
    "admins",
    "agent_id",
    "aliases",
    "allowed_cache_controls",
    "allowed_routes",
    "auto_create_key",
    "auto_rotate",
    "budget_fallbacks",
    "budget_id",
    "budget_limits",
    "config",
    "enforced_params",
    "guardrails",
    "max_budget_in_organization",
    "mcp_rpm_limit",
    "mcp_tpm_limit",
    "model_aliases",
    "object_permission",
    "permissions",
    "policies",
    "project_id",
    "prompts",
    "rotation_interval",
    "router_settings",
    "rpm_limit_type",
    "send_invite_email",
    "spend",
    "sso_user_id",
    "tag_rpm_limit",
    "team_member_budget",
    "team_member_key_duration",
    "team_member_rpm_limit",
    "team_member_tpm_limit",
    "temp_budget_expiry",
    "temp_budget_increase",
    "tpd_limit",
    "tpm_limit_type",
];

impl Kind {
    fn check(self, value: &Value) -> Result<(), String> {
        let fine = match self {
            Self::Name => value.as_str().is_some_and(is_name),
            Self::Names => value.as_array().is_some_and(|values| {
                values.iter().all(|value| value.as_str().is_some_and(is_name))
            }),
            Self::Limit => is_limit(value),
            Self::Limits => value.as_object().is_some_and(|map| {
                map.iter().all(|(name, value)| is_name(name) && is_limit(value))
            }),
            Self::Money => is_money(value),
            Self::Budgets => value.as_object().is_some_and(|map| {
                map.iter().all(|(name, value)| is_name(name) && is_budget(value))
            }),
            Self::Period => value.as_str().is_some_and(|text| text.parse::<Period>().is_ok()),
            Self::Time => value.as_str().is_some_and(|text| text.parse::<UnixMillis>().is_ok()),
            Self::Flag => value.is_boolean(),
            Self::Object => value.is_object(),
            Self::KeyType => value.as_str().and_then(KeyType::from_name).is_some(),
            Self::Role => value.as_str().and_then(Role::from_name).is_some(),
            Self::MemberRole => value.as_str().and_then(MemberRole::from_name).is_some(),
            Self::OrganizationRole => {
                value.as_str().and_then(OrganizationRole::from_name).is_some()
            }
        };
        if fine { Ok(()) } else { Err(self.wanted()) }
    }

    /// Writes a whole number as one: `5.0` is 5, in JSON and for clients that know no other numbers.
    fn plain(self, value: Value) -> Value {
        match (self, value) {
            (Self::Limit, Value::Number(number)) => whole(number).into(),
            (Self::Limits, Value::Object(map)) => {
                let plain = |(name, value)| (name, Self::Limit.plain(value));
                Value::Object(map.into_iter().map(plain).collect())
            }
            (_, other) => other,
        }
    }

    fn wanted(self) -> String {
        fn one_of(names: impl Iterator<Item = &'static str>) -> String {
            format!("one of {}", names.collect::<Vec<_>>().join(", "))
        }
        match self {
            Self::Name => "a text of 1 to 256 bytes without control characters".to_owned(),
            Self::Names => {
                "a list of texts of 1 to 256 bytes without control characters".to_owned()
            }
            Self::Limit => "a whole number from 0 on, or null for no limit".to_owned(),
            Self::Limits => "an object of models, each with a whole number from 0 on".to_owned(),
            Self::Money => {
                "a number of US dollars from 0 to 9 billion, or null for no limit".to_owned()
            }
            Self::Budgets => "an object of models, each with a number of US dollars from 0 on or {\"budget_limit\": 10, \"time_period\": \"1d\"}".to_owned(),
            Self::Period => "a duration such as 30s, 30m, 24h, 7d or 1mo, up to ten years".to_owned(),
            Self::Time => "a time such as 2026-01-31T23:59:59Z".to_owned(),
            Self::Flag => "true or false".to_owned(),
            Self::Object => "an object".to_owned(),
            Self::KeyType => one_of(KeyType::ALL.iter().map(|it| it.as_str())),
            Self::Role => one_of(Role::ALL.iter().map(|it| it.as_str())),
            Self::MemberRole => one_of(MemberRole::ALL.iter().map(|it| it.as_str())),
            Self::OrganizationRole => one_of(OrganizationRole::ALL.iter().map(|it| it.as_str())),
        }
    }
}

fn is_name(text: &str) -> bool {
    (1..=MAX_NAME).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// Makes an integer of a number that is one, as far as floats are exact.
fn whole(number: Number) -> Number {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match number.as_f64() {
        Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() <= EXACT => {
            format!("{float:.0}").parse::<i64>().map_or(number, Number::from)
        }
        _ => number,
    }
}

fn is_limit(value: &Value) -> bool {
    // What the database holds.
    value.as_u64().is_some_and(|number| i64::try_from(number).is_ok())
}

fn is_money(value: &Value) -> bool {
    value.is_number()
        && serde_json::from_value::<Money>(value.clone()).is_ok_and(|money| money >= Money::ZERO)
}

fn is_budget(value: &Value) -> bool {
    let amount = match value {
        Value::Object(map) => map.get("budget_limit").or_else(|| map.get("max_budget")),
        other => Some(other),
    };
    amount.is_some_and(is_money) && serde_json::from_value::<ModelBudget>(value.clone()).is_ok()
}

/// Says nothing: what a client that knows the field sends for "no".
fn is_void(name: &str, value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Number(number) => name == "spend" && number.as_f64() == Some(0.0),
        Value::Bool(true) => false,
    }
}

/// The fields of a JSON object or of a URL's query, to be taken one after the other.
#[derive(Debug)]
pub(crate) struct Fields {
    map: Map<String, Value>,
    /// What stands before the names of fields in errors.
    place: String,
}

impl Fields {
    /// Reads a body.
    pub(crate) fn of_body(body: &[u8]) -> Result<Self, ApiError> {
        let map = serde_json::from_slice(body)
            .map_err(|_| ApiError::invalid("body", "The body must be a JSON object."))?;
        Ok(Self { map, place: String::new() })
    }

    /// Reads a query: all its values are texts.
    pub(crate) fn of_query(query: Option<&str>) -> Result<Self, ApiError> {
        let mut map = Map::new();
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let plain = |text: &str| decoded(&text.replace('+', " "));
            let name = plain(name);
            if map.insert(name.clone(), Value::String(plain(value))).is_some() {
                return Err(ApiError::invalid(
                    &name,
                    format!("`{}` is given twice.", short(&name)),
                ));
            }
        }
        Ok(Self { map, place: String::new() })
    }

    /// Makes one field.
    pub(super) fn of_one(name: &str, value: Value) -> Self {
        Self { map: Map::from_iter([(name.to_owned(), value)]), place: String::new() }
    }

    /// Says what is wrong with a field.
    pub(super) fn invalid(&self, name: &str, wanted: &str) -> ApiError {
        let name = format!("{}{name}", self.place);
        ApiError::invalid(&name, format!("`{name}` must be {wanted}."))
    }

    /// Takes a field as it is.
    pub(super) fn take(&mut self, name: &str) -> Option<Value> {
        self.map.remove(name)
    }

    /// Takes a field by one of its spellings.
    pub(super) fn take_any(
        &mut self,
        names: &[&'static str],
    ) -> Result<(&'static str, Option<Value>), ApiError> {
        let mut found = None;
        for name in names.iter().copied() {
            let Some(value) = self.map.remove(name) else { continue };
            if let Some((first, _)) = found {
                let message = format!("`{name}` means the same as `{first}`: give one of them.");
                return Err(ApiError::invalid(name, message));
            }
            found = Some((name, value));
        }
        Ok(match found {
            Some((name, value)) => (name, Some(value)),
            None => (names.first().copied().unwrap_or_default(), None),
        })
    }

    /// Takes a field of a kind; `null` is as good as absent.
    pub(super) fn option<T: DeserializeOwned>(
        &mut self,
        name: &str,
        kind: Kind,
    ) -> Result<Option<T>, ApiError> {
        match self.take(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => self.read(name, kind, value).map(Some),
        }
    }

    /// Takes a name, under one of its spellings, that must be there.
    pub(super) fn need(&mut self, names: &[&'static str]) -> Result<String, ApiError> {
        match self.take_any(names)? {
            (name, None | Some(Value::Null)) => Err(self.missing(name)),
            (name, Some(value)) => self.read(name, Kind::Name, value),
        }
    }

    /// Takes one or more names, under one of the spellings of their field, of which there must be at least one. None of
    /// them comes twice.
    pub(super) fn need_some(&mut self, names: &[&'static str]) -> Result<Vec<String>, ApiError> {
        let (name, value) = self.take_any(names)?;
        let values = match value {
            None | Some(Value::Null) => return Err(self.missing(name)),
            Some(Value::Array(values)) => values,
            Some(value) => vec![value],
        };
        if values.is_empty() || values.len() > MAX_NAMED {
            return Err(self.invalid(name, "one to 1000 ids"));
        }
        let mut found: Vec<String> = self.read(name, Kind::Names, Value::Array(values))?;
        found.sort();
        found.dedup();
        Ok(found)
    }

    /// Takes one or more objects, under one of the spellings of their field. Absent: none. `bare` is the field that a
    /// mere text stands for.
    pub(super) fn objects(
        &mut self,
        names: &[&'static str],
        bare: &str,
    ) -> Result<Vec<Self>, ApiError> {
        let (name, value) = self.take_any(names)?;
        let values = match value {
            None | Some(Value::Null) => return Ok(Vec::new()),
            Some(Value::Array(values)) if values.len() > MAX_NAMED => {
                return Err(self.invalid(name, "at most 1000 members"));
            }
            Some(Value::Array(values)) => values,
            Some(value) => vec![value],
        };
        let object = |(index, value)| {
            let place = format!("{}{name}[{index}].", self.place);
            match value {
                Value::Object(map) => Ok(Self { map, place }),
                Value::String(_) => {
                    Ok(Self { map: Map::from_iter([(bare.to_owned(), value)]), place })
                }
                _ => Err(self.invalid(name, "an object or a list of objects")),
            }
        };
        values.into_iter().enumerate().map(object).collect()
    }

    pub(super) fn missing(&self, name: &str) -> ApiError {
        let name = format!("{}{name}", self.place);
        ApiError::invalid(&name, format!("`{name}` is missing."))
    }

    /// Takes the fields of a partial update. Fields of `T` have their names.
    pub(super) fn patch<T: DeserializeOwned>(&mut self, known: &[&Known]) -> Result<T, ApiError> {
        let mut patch = Map::new();
        for (name, kind) in known.iter().copied().flatten() {
            let Some(value) = self.take(name).map(|value| kind.plain(value)) else { continue };
            if !value.is_null() {
                kind.check(&value).map_err(|wanted| self.invalid(name, &wanted))?;
            }
            patch.insert((*name).to_owned(), value);
        }
        serde_json::from_value(Value::Object(patch)).map_err(|error| {
            ApiError::invalid("body", format!("The body cannot be read: {error}."))
        })
    }

    /// Reads a field that was taken.
    pub(super) fn read<T: DeserializeOwned>(
        &self,
        name: &str,
        kind: Kind,
        value: Value,
    ) -> Result<T, ApiError> {
        kind.check(&value)
            .and_then(|()| serde_json::from_value(value).map_err(|_| kind.wanted()))
            .map_err(|wanted| self.invalid(name, &wanted))
    }

    /// Refuses what was not taken.
    pub(crate) fn finish(self) -> Result<(), ApiError> {
        for (name, value) in &self.map {
            let place = &self.place;
            let supported = !NOT_SUPPORTED.contains(&name.as_str());
            if !supported && is_void(name, value) {
                continue;
            }
            let why = if supported { "not a known field" } else { "not supported" };
            let name = format!("{place}{}", short(name));
            return Err(ApiError::invalid(&name, format!("`{name}` is {why}.")));
        }
        Ok(())
    }

    /// Takes a text from a query; an empty one is as good as absent.
    pub(crate) fn text(&mut self, name: &str) -> Result<Option<String>, ApiError> {
        match self.take(name) {
            Some(Value::String(text)) if text.is_empty() => Ok(None),
            None => Ok(None),
            Some(value) => self.read(name, Kind::Name, value).map(Some),
        }
    }

    /// Takes a text from a query, under one of the spellings of its name.
    pub(super) fn text_of(&mut self, names: &[&'static str]) -> Result<Option<String>, ApiError> {
        let (name, value) = self.take_any(names)?;
        match value {
            Some(value) => {
                Self { map: Map::from_iter([(name.to_owned(), value)]), place: String::new() }
                    .text(name)
            }
            None => Ok(None),
        }
    }

    /// Takes a number from a query.
    fn number(&mut self, names: &[&'static str]) -> Result<Option<u64>, ApiError> {
        let (name, value) = self.take_any(names)?;
        let Some(value) = value else { return Ok(None) };
        let number = value.as_str().and_then(|text| text.parse::<u32>().ok());
        let number = number.ok_or_else(|| self.invalid(name, "a whole number"))?;
        Ok(Some(u64::from(number)))
    }

    /// Takes which part of a list is wanted.
    pub(crate) fn paging(&mut self) -> Result<Paging, ApiError> {
        let size = self.number(&["page_size", "size", "limit"])?.unwrap_or(50);
        let (page, offset) = (self.number(&["page"])?, self.number(&["offset"])?);
        let size = u32::try_from(size).ok().filter(|size| (1..=Page::MAX_SIZE).contains(size));
        let size = size.ok_or_else(|| self.invalid("page_size", "from 1 to 1000"))?;
        let offset = match (page, offset) {
            (Some(_), Some(_)) => {
                let message = "`offset` counts entries, `page` counts pages: give one of them.";
                return Err(ApiError::invalid("offset", message));
            }
            (Some(0), None) => return Err(self.invalid("page", "at least 1")),
            (Some(page), None) => (page - 1) * u64::from(size),
            (None, offset) => offset.unwrap_or_default(),
        };
        Ok(Paging { offset, size })
    }
}

/// A client's text for an error.
fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(64).collect()
}

/// A part of a list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paging {
    offset: u64,
    size: u32,
}

impl Paging {
    /// Reads the part of a list that `fetch` reads pages of.
    pub(crate) async fn list<'a, T>(
        self,
        fetch: impl Fn(Page) -> Answer<'a, Listed<T>>,
    ) -> Result<Listed<T>, ApiError> {
        let size = u64::from(self.size);
        let number = self.offset / size;
        let skip = usize::try_from(self.offset % size).unwrap_or_default();
        let page = |number: u64| {
            let number = u32::try_from(number).ok().and_then(|number| Page::new(number, self.size));
            number.ok_or_else(|| ApiError::invalid("page", "`page` is too large."))
        };
        let mut listed = fetch(page(number + 1)?).await?;
        if skip > 0 {
            listed.data.drain(..skip.min(listed.data.len()));
            let mut next = fetch(page(number + 2)?).await?;
            next.data.truncate(skip);
            listed.data.append(&mut next.data);
        }
        Ok(listed)
    }

    /// Takes the part out of a whole list.
    pub(crate) fn of<T>(self, all: Vec<T>) -> Listed<T> {
        let total = all.len() as u64;
        let skip = usize::try_from(self.offset).unwrap_or(usize::MAX);
        let size = self.size as usize;
        let page = u32::try_from(self.offset / u64::from(self.size) + 1).unwrap_or(u32::MAX);
        let data = all.into_iter().skip(skip).take(size).collect();
        Listed { data, total, page, page_size: self.size }
    }
}

/// Reads all pages of a list.
pub(super) async fn all<'a, T>(
    fetch: impl Fn(Page) -> Answer<'a, Listed<T>>,
) -> Result<Vec<T>, ApiError> {
    let mut found = Vec::new();
    for number in 1.. {
        let Some(page) = Page::new(number, Page::MAX_SIZE) else { break };
        let listed = fetch(page).await?;
        let count = listed.data.len();
        found.extend(listed.data);
        if count < Page::MAX_SIZE as usize {
            break;
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use llmux_auth::tenants::{KeyPatch, Patch};
    use serde_json::json;

    fn fields(value: &Value) -> Fields {
        Fields::of_body(value.to_string().as_bytes()).unwrap()
    }

    fn refused(value: &Value) -> Option<String> {
        let mut fields = fields(value);
        let result = fields.patch::<KeyPatch>(&[BUDGET, LIMITS]).and_then(|_| fields.finish());
        result.err().and_then(|error| error.error.param)
    }

    #[test]
    fn what_a_field_cannot_hold_is_refused_by_name() {
        for value in [
            json!({"max_budget": -1}),
            json!({"max_budget": "1"}),
            json!({"max_budget": 1e30}),
            json!({"soft_budget": true}),
            json!({"budget_duration": "1y"}),
            json!({"budget_duration": "0d"}),
            json!({"budget_duration": 1}),
            json!({"rpm_limit": -1}),
            json!({"rpm_limit": 1.5}),
            json!({"tpm_limit": "5"}),
            json!({"tpm_limit": u64::MAX}),
            json!({"max_parallel_requests": []}),
            json!({"models": "m"}),
            json!({"models": [1]}),
            json!({"models": [""]}),
            json!({"models": ["a\n"]}),
            json!({"models": ["x".repeat(257)]}),
            json!({"model_rpm_limit": {"m": -1}}),
            json!({"model_tpm_limit": []}),
            json!({"model_max_budget": {"m": -1}}),
            json!({"model_max_budget": {"m": {"budget_limit": -1}}}),
            json!({"model_max_budget": {"m": {"budget_limit": 1, "time_period": "x"}}}),
            json!({"model_max_budget": {"m": {"budget_limit": 1, "other": 1}}}),
            json!({"max_bugdet": 1}),
            json!({"permissions": {"a": 1}}),
            json!({"spend": 1}),
        ] {
            let name = value.as_object().unwrap().keys().next().cloned();
            assert_eq!(refused(&value), name, "{value}");
        }
    }

    #[test]
    fn a_whole_number_may_have_a_point() {
        let value = json!({"rpm_limit": 5.0, "tpm_limit": 1e3, "model_rpm_limit": {"m": 2.0}});
        let patch: KeyPatch = fields(&value).patch(&[LIMITS]).unwrap();
        assert_eq!((patch.rpm_limit, patch.tpm_limit), (Patch::Set(5), Patch::Set(1000)));
        assert_eq!(patch.model_rpm_limit, Patch::Set([("m".to_owned(), 2)].into()));
        for value in [json!({"rpm_limit": 1e300}), json!({"rpm_limit": -5.0})] {
            assert_eq!(refused(&value).as_deref(), Some("rpm_limit"));
        }
    }

    #[test]
    fn what_says_nothing_passes() {
        let value = json!({
            "max_budget": null, "models": null, "rpm_limit": 0, "aliases": {}, "config": null, "permissions": {},
            "guardrails": [], "spend": 0, "auto_rotate": false, "budget_id": "",
        });
        assert_eq!(refused(&value), None);
    }

    #[test]
    fn an_offset_need_not_be_a_multiple_of_the_size() {
        let paging = |query: &str| Fields::of_query(Some(query)).and_then(|mut it| it.paging());
        let listed = paging("limit=3&offset=4").unwrap().of((0..10).collect());
        assert_eq!((listed.data, listed.total, listed.page), (vec![4, 5, 6], 10, 2));
        for (query, param) in [
            ("page_size=0", "page_size"),
            ("size=1001", "page_size"),
            ("limit=x", "limit"),
            ("page=0", "page"),
            ("page=-1", "page"),
            ("page=1&offset=1", "offset"),
            ("size=1&limit=1", "limit"),
        ] {
            let error = paging(query).unwrap_err();
            assert_eq!(error.error.param.as_deref(), Some(param), "{query}");
        }
    }
}
