use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Map;

use super::StoreError;
use crate::tenants::{
    KeyHash, KeyType, MemberRole, ModelBudget, ModelSpend, Money, OrganizationRole, Period, Role,
    UnixMillis, UsageStatus,
};

/// A value in a row or a parameter.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Null,
    Int(i64),
    Bool(bool),
    Text(String),
    /// A parameter only.
    Texts(Vec<String>),
}

pub(crate) type Row = Vec<Value>;

/// Something that is stored in one column.
pub(crate) trait Column: Sized {
    fn store(&self) -> Result<Value, StoreError>;
    fn load(value: Value) -> Result<Self, StoreError>;
}

/// Loads the next column of a row.
pub(crate) fn next<T: Column>(row: &mut impl Iterator<Item = Value>) -> Result<T, StoreError> {
    T::load(row.next().ok_or_else(|| StoreError::corrupt("a row is too short"))?)
}

fn unexpected(value: &Value) -> StoreError {
    let kind = match value {
        Value::Null => "null",
        Value::Int(_) => "a number",
        Value::Bool(_) => "a truth value",
        Value::Text(_) => "a text that does not fit",
        Value::Texts(_) => "a list",
    };
    StoreError::corrupt(format!("a column holds {kind}"))
}

impl Column for String {
    fn store(&self) -> Result<Value, StoreError> {
        // PostgreSQL cannot store it, so neither does the other.
        if self.contains('\0') {
            return Err(StoreError::invalid("text", "must not hold NUL characters"));
        }
        Ok(Value::Text(self.clone()))
    }

    fn load(value: Value) -> Result<Self, StoreError> {
        match value {
            Value::Text(text) => Ok(text),
            other => Err(unexpected(&other)),
        }
    }
}

impl Column for bool {
    fn store(&self) -> Result<Value, StoreError> {
        Ok(Value::Bool(*self))
    }

    fn load(value: Value) -> Result<Self, StoreError> {
        match value {
            Value::Bool(value) => Ok(value),
            Value::Int(value @ (0 | 1)) => Ok(value == 1),
            other => Err(unexpected(&other)),
        }
    }
}

impl Column for i64 {
    fn store(&self) -> Result<Value, StoreError> {
        Ok(Value::Int(*self))
    }

    fn load(value: Value) -> Result<Self, StoreError> {
        match value {
            Value::Int(value) => Ok(value),
            other => Err(unexpected(&other)),
        }
    }
}

macro_rules! integers {
    ($($type:ty)*) => {$(
        impl Column for $type {
            fn store(&self) -> Result<Value, StoreError> {
                i64::try_from(*self).map(Value::Int).map_err(|_| StoreError::invalid("number", "is too large"))
            }

            fn load(value: Value) -> Result<Self, StoreError> {
                Self::try_from(i64::load(value)?).map_err(|_| StoreError::corrupt("a number is out of range"))
            }
        }
    )*};
}
integers! { u64 u32 u16 }

impl Column for Money {
    fn store(&self) -> Result<Value, StoreError> {
        Ok(Value::Int(self.nanos()))
    }

    fn load(value: Value) -> Result<Self, StoreError> {
        i64::load(value).map(Self::from_nanos)
    }
}

impl Column for UnixMillis {
    fn store(&self) -> Result<Value, StoreError> {
        Ok(Value::Int(self.0))
    }

    fn load(value: Value) -> Result<Self, StoreError> {
        i64::load(value).map(Self)
    }
}

impl<T: Column> Column for Option<T> {
    fn store(&self) -> Result<Value, StoreError> {
        self.as_ref().map_or(Ok(Value::Null), T::store)
    }

    fn load(value: Value) -> Result<Self, StoreError> {
        match value {
            Value::Null => Ok(None),
            value => T::load(value).map(Some),
        }
    }
}

/// Types that are stored as their name.
macro_rules! texts {
    ($($type:ty, $as_text:expr, $from_text:expr;)*) => {$(
        impl Column for $type {
            fn store(&self) -> Result<Value, StoreError> {
                let as_text: fn(&Self) -> String = $as_text;
                Ok(Value::Text(as_text(self)))
            }

            fn load(value: Value) -> Result<Self, StoreError> {
                let from_text: fn(&str) -> Option<Self> = $from_text;
                match &value {
                    Value::Text(text) => from_text(text).ok_or_else(|| unexpected(&value)),
                    other => Err(unexpected(other)),
                }
            }
        }
    )*};
}
texts! {
    KeyHash, |it| it.as_str().to_owned(), Self::from_hex;
    Period, |it| it.to_string(), |text| text.parse().ok();
    KeyType, |it| it.as_str().to_owned(), Self::from_name;
    Role, |it| it.as_str().to_owned(), Self::from_name;
    MemberRole, |it| it.as_str().to_owned(), Self::from_name;
    OrganizationRole, |it| it.as_str().to_owned(), Self::from_name;
    UsageStatus, |it| it.as_str().to_owned(), Self::from_name;
}

/// Types that are stored as JSON texts: they come back as they were, and nothing searches in them.
macro_rules! json {
    ($($type:ty)*) => {$(
        impl Column for $type {
            fn store(&self) -> Result<Value, StoreError> {
                to_json(self)
            }

            fn load(value: Value) -> Result<Self, StoreError> {
                from_json(&String::load(value)?)
            }
        }
    )*};
}
json! {
    Vec<String>
    BTreeMap<String, u64>
    BTreeMap<String, ModelBudget>
    BTreeMap<String, ModelSpend>
    Map<String, serde_json::Value>
    serde_json::Value
}

fn to_json(value: &impl Serialize) -> Result<Value, StoreError> {
    serde_json::to_string(value)
        .map(Value::Text)
        .map_err(|error| StoreError::corrupt_by("a value has no JSON form", error))
}

fn from_json<T: DeserializeOwned>(text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text)
        .map_err(|error| StoreError::corrupt_by("a column holds no JSON of its form", error))
}
