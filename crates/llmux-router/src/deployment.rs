use crate::window::Limits;

/// What a deployment charges, in whole pico-dollars (10⁻¹² US dollars) per token. `None` is unknown, which is not free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Price {
    /// Per token of the request.
    pub input: Option<u64>,
    /// Per token of the answer.
    pub output: Option<u64>,
}

/// One deployment of a model: an endpoint that can answer for it.
#[derive(Clone, Debug)]
pub struct Deployment {
    pub(crate) id: String,
    pub(crate) weight: Option<u32>,
    pub(crate) limits: Limits,
    pub(crate) max_concurrent: Option<u32>,
    pub(crate) tags: Vec<String>,
    pub(crate) price: Price,
}

impl Deployment {
    /// Makes a deployment without limits. The id is its name in decisions, and how [`Router::reconfigure`] knows it
    /// again; it must be unique within a router.
    ///
    /// [`Router::reconfigure`]: crate::Router::reconfigure
    pub fn new(id: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            weight: None,
            limits: Limits::default(),
            max_concurrent: None,
            tags: Vec::new(),
            price: Price::default(),
        }
    }

    /// Sets the share of calls relative to the weights of the others; one without a weight counts as 1. With 0 it is
    /// used only when no other is eligible.
    #[must_use]
    pub const fn weight(mut self, weight: u32) -> Self {
        self.weight = Some(weight);
        self
    }

    /// Limits the requests of any minute.
    #[must_use]
    pub const fn requests_per_minute(mut self, requests: u64) -> Self {
        self.limits.requests = Some(requests);
        self
    }

    /// Limits the tokens of any minute, those of requests and answers together.
    #[must_use]
    pub const fn tokens_per_minute(mut self, tokens: u64) -> Self {
        self.limits.tokens = Some(tokens);
        self
    }

    /// Limits the calls in flight.
    #[must_use]
    pub const fn max_concurrent(mut self, calls: u32) -> Self {
        self.max_concurrent = Some(calls);
        self
    }

    /// Sets the tags that `tag-based` routing goes by. `default` takes the requests that match no other.
    #[must_use]
    pub fn tags(mut self, tags: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.tags = tags.into_iter().map(Into::into).collect();
        self
    }

    /// Sets the prices that `lowest-cost` routing goes by.
    #[must_use]
    pub const fn price(mut self, price: Price) -> Self {
        self.price = price;
        self
    }

    /// Returns the name used in decisions, logs and headers.
    pub fn id(&self) -> &str {
        &self.id
    }
}
