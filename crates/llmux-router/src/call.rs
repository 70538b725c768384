use std::time::{Duration, Instant};

use crate::decision::Why;
use crate::retry::Failure;

/// What a pick depends on besides the state of the deployments.
#[derive(Clone, Copy, Debug, Default)]
pub struct Request<'a> {
    /// Deployments that already failed this request: chosen again only when no other is eligible.
    pub tried: &'a [usize],
    /// Deployments that this request may never use.
    pub excluded: &'a [usize],
    /// Deployments that cannot take this request, whatever their state. Unlike [`Request::excluded`] they still count
    /// when tags are compared: a request that belongs to one of them must not slip to another.
    pub unable: &'a [usize],
    /// Deployments that can take no call right now for a reason outside of the router, such as a pool of places that
    /// they share with others.
    pub full: &'a [usize],
    /// What `tag-based` routing goes by.
    pub tags: &'a [String],
    /// Whether the answer will be a stream.
    pub stream: bool,
    /// Estimated tokens of the request.
    pub input_tokens: u64,
    /// The most tokens the answer may have, if the client said so.
    pub max_output_tokens: Option<u64>,
    /// A uniformly random number; equal inputs give equal picks.
    pub random: u64,
}

/// The right to make one call to a deployment. Hand it back with [`Router::record`](crate::Router::record); the call
/// counts as in flight until then.
#[must_use = "a pick counts as a call in flight until it is recorded"]
#[derive(Debug)]
pub struct Pick {
    pub(crate) index: usize,
    pub(crate) serial: u64,
    pub(crate) at: Instant,
    pub(crate) second: u64,
    /// Tokens reserved of the deployment's limit.
    pub(crate) tokens: u64,
    /// Whether this is the one call that shows if the deployment works again after a cooldown.
    pub(crate) trial: bool,
    /// Whether the deployment is called though it cools down.
    pub(crate) overruled: bool,
    pub(crate) why: Why,
}

impl Pick {
    /// Returns the position of the deployment, in the order they were given to the router.
    pub const fn index(&self) -> usize {
        self.index
    }

    /// Tells whether the deployment is called to see if it works again; see [`Router::note_output`].
    ///
    /// [`Router::note_output`]: crate::Router::note_output
    pub const fn is_trial(&self) -> bool {
        self.trial || self.overruled
    }

    /// Returns why this deployment was chosen.
    pub const fn why(&self) -> &Why {
        &self.why
    }
}

/// What was seen of a call that ended well.
#[derive(Clone, Copy, Debug, Default)]
pub struct Measured {
    /// From the start of the call to the first output of its stream; `None` if the answer came whole.
    pub first_output: Option<Duration>,
    /// From the start of the call to its end.
    pub duration: Duration,
    /// Tokens of the answer, if the vendor said.
    pub output_tokens: Option<u64>,
    /// Tokens of the request and the answer, if the vendor said.
    pub total_tokens: Option<u64>,
}

/// How a call ended.
#[derive(Clone, Copy, Debug)]
pub enum Outcome {
    /// The vendor answered.
    Success(Measured),
    /// It did not, or not well. Failures that the request caused say nothing about the deployment.
    Failure(Failure),
    /// The client left before the end.
    Cancelled,
    /// The call was never made.
    Unsent,
}
