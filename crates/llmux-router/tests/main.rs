//! What the router promises, seen from outside.

#[cfg(test)]
mod routing {
    mod cooldowns;
    mod explain;
    mod latency;
    mod limits;
    mod model;
    mod properties;
    mod reconfigure;
    mod strategies;
    mod support;
}
