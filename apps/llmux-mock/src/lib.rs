//! A fake vendor.
