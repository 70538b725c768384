use std::error::Error;

/// Why a store did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// What was named does not exist.
    #[error("there is no {what} {id}")]
    NotFound {
        /// Its kind, for example `team`.
        what: &'static str,
        /// Its id.
        id: String,
    },
    /// Something else has this value already.
    #[error("this {field} is taken")]
    Conflict {
        /// The field, for example `key_alias`.
        field: String,
    },
    /// A field names something that does not exist.
    #[error("{field} names nothing that exists")]
    MissingReference {
        /// The field, for example `team_id`.
        field: String,
    },
    /// It cannot go while something belongs to it.
    #[error("{id} still has {by}")]
    InUse {
        /// Its id.
        id: String,
        /// What belongs to it.
        by: &'static str,
    },
    /// A value cannot be stored.
    #[error("{field}: {reason}")]
    Invalid {
        /// The field.
        field: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The database cannot be reached or is too busy: later the same call may succeed.
    #[error("the database is not available: {reason}")]
    Unavailable {
        /// What could not be done.
        reason: String,
        /// The driver's error.
        #[source]
        source: Option<Box<dyn Error + Send + Sync>>,
    },
    /// The database was wanted for one process alone, and another one has it so.
    #[error("another gateway uses this database")]
    Taken,
    /// The database holds or did what it should not.
    #[error("the database does not fit: {reason}")]
    Corrupt {
        /// What is wrong.
        reason: String,
        /// The driver's error.
        #[source]
        source: Option<Box<dyn Error + Send + Sync>>,
    },
}

#[cfg(any(feature = "sqlite", feature = "postgres"))]
impl StoreError {
    pub(crate) fn invalid(field: &str, reason: &'static str) -> Self {
        Self::Invalid { field: field.to_owned(), reason }
    }

    pub(crate) fn corrupt(reason: impl Into<String>) -> Self {
        Self::Corrupt { reason: reason.into(), source: None }
    }

    pub(crate) fn corrupt_by(reason: &str, source: impl Error + Send + Sync + 'static) -> Self {
        Self::Corrupt { reason: reason.to_owned(), source: Some(Box::new(source)) }
    }

    pub(crate) fn unavailable(reason: &str) -> Self {
        Self::Unavailable { reason: reason.to_owned(), source: None }
    }

    pub(crate) fn unavailable_by(reason: &str, source: impl Error + Send + Sync + 'static) -> Self {
        Self::Unavailable { reason: reason.to_owned(), source: Some(Box::new(source)) }
    }
}
