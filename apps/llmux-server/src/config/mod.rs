//! The configuration: what the files and the environment say (`file`), and what came out of it (`Settings`).

mod settings;

pub(crate) use settings::*;
