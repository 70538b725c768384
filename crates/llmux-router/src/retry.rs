use std::time::Duration;

use llmux_types::FailureClass;

/// One failed attempt.
#[derive(Clone, Copy, Debug)]
pub struct Failure {
    /// What kind of failure it was.
    pub class: FailureClass,
    /// How long the vendor asked to wait (`retry-after`, `retry-after-ms`).
    pub retry_after: Option<Duration>,
}

/// What is left for a request. Made by [`Router::left`](crate::Router::left).
#[derive(Clone, Copy, Debug, Default)]
pub struct Left {
    /// Whether another deployment of the same model could take it that has not been tried.
    pub deployments: bool,
    /// Whether a fallback model for this kind of failure is left; see [`Fallbacks::next`].
    ///
    /// [`Fallbacks::next`]: crate::Fallbacks::next
    pub models: bool,
    /// How long until any deployment of the model could take it, what its vendor asked for included; `None` if none
    /// will.
    pub again: Option<Duration>,
}

/// What follows a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Ask the router again at once; another deployment is left.
    Elsewhere,
    /// Go on with the next fallback model at once.
    NextModel,
    /// Wait, then ask the router again.
    Again {
        /// How long to wait.
        delay: Duration,
    },
    /// Tell the client.
    GiveUp,
}

/// When and how often a failed request is tried again.
#[derive(Clone, Debug)]
pub struct RetryPolicy {
    /// Further attempts after the first, over all models of a request together.
    pub count: u32,
    /// The first wait; doubles with each attempt.
    pub backoff: Duration,
    /// The longest wait. A vendor that asks for a longer one is not waited for.
    pub max_backoff: Duration,
    /// Share of the wait, 0 to 1, by which chance lengthens or shortens it.
    pub jitter: f64,
    /// Whether other deployments and other models may be tried.
    pub fallback: bool,
}

impl RetryPolicy {
    /// Decides what follows the failure of attempt number `attempts` (the first is 1). `random` is a uniformly random
    /// number.
    ///
    /// What has not been tried comes first and needs no wait: another deployment of the model, then the next model.
    /// When nothing else is left, what was tried gets the doubled wait or what the vendor asked for. A request at
    /// fault is never tried again, but for models that may be able to take it.
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use llmux_router::{Failure, FailureClass, Left, RetryPolicy, Step};
    ///
    /// let policy = RetryPolicy {
    ///     count: 3,
    ///     backoff: Duration::from_millis(100),
    ///     max_backoff: Duration::from_secs(5),
    ///     jitter: 0.0,
    ///     fallback: true,
    /// };
    /// let failure = Failure { class: FailureClass::Server, retry_after: None };
    /// let another = Left { deployments: true, models: true, again: Some(Duration::ZERO) };
    /// assert_eq!(policy.after(&failure, 1, another, 0), Step::Elsewhere);
    /// let nothing = Left { again: Some(Duration::ZERO), ..Left::default() };
    /// let delay = Duration::from_millis(200);
    /// assert_eq!(policy.after(&failure, 2, nothing, 0), Step::Again { delay });
    /// assert_eq!(policy.after(&failure, 4, another, 0), Step::GiveUp);
    /// ```
    pub fn after(&self, failure: &Failure, attempts: u32, left: Left, random: u64) -> Step {
        if attempts > self.count {
            return Step::GiveUp;
        }
        let next_model = self.fallback && left.models;
        match failure.class {
            FailureClass::Request => return Step::GiveUp,
            FailureClass::ContextWindow | FailureClass::ContentPolicy => {
                return if next_model { Step::NextModel } else { Step::GiveUp };
            }
            _ if self.fallback && left.deployments => return Step::Elsewhere,
            _ if next_model => return Step::NextModel,
            _ => {}
        }
        match left.again {
            Some(free) if free <= self.max_backoff => {
                Step::Again { delay: self.wait(attempts, random).max(free) }
            }
            _ => Step::GiveUp,
        }
    }

    /// `backoff * 2^(attempts - 1)`, capped, then shortened or lengthened by up to `jitter`, then capped again.
    fn wait(&self, attempts: u32, random: u64) -> Duration {
        let doubled = self
            .backoff
            .saturating_mul(1_u32.checked_shl(attempts.saturating_sub(1)).unwrap_or(u32::MAX))
            .min(self.max_backoff);
        let chance = random as f64 / u64::MAX as f64 * 2.0 - 1.0;
        let factor = chance.mul_add(self.jitter.clamp(0.0, 1.0), 1.0).max(0.0);
        let seconds = doubled.as_secs_f64() * factor;
        Duration::try_from_secs_f64(seconds).map_or(self.max_backoff, |it| it.min(self.max_backoff))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: RetryPolicy = RetryPolicy {
        count: 3,
        backoff: Duration::from_millis(100),
        max_backoff: Duration::from_secs(5),
        jitter: 0.0,
        fallback: true,
    };
    const NOTHING: Left = Left { deployments: false, models: false, again: Some(Duration::ZERO) };
    const MODELS: Left = Left { deployments: false, models: true, again: Some(Duration::ZERO) };
    const ALL: Left = Left { deployments: true, models: true, again: Some(Duration::ZERO) };

    fn failure(class: FailureClass) -> Failure {
        Failure { class, retry_after: None }
    }

    fn again(milliseconds: u64) -> Step {
        Step::Again { delay: Duration::from_millis(milliseconds) }
    }

    #[test]
    fn another_deployment_then_another_model_is_tried_without_a_wait() {
        for class in [FailureClass::Server, FailureClass::Credential, FailureClass::Forbidden] {
            assert_eq!(POLICY.after(&failure(class), 1, ALL, 0), Step::Elsewhere);
            assert_eq!(POLICY.after(&failure(class), 2, MODELS, 0), Step::NextModel);
        }
    }

    #[test]
    fn the_wait_doubles_up_to_its_cap() {
        let server = failure(FailureClass::Server);
        let waits: Vec<_> =
            (1..=3).map(|attempt| POLICY.after(&server, attempt, NOTHING, 0)).collect();
        assert_eq!(waits, [again(100), again(200), again(400)]);
        let many = RetryPolicy { count: 100, ..POLICY };
        assert_eq!(many.after(&server, 90, NOTHING, 0), again(5000));
    }

    #[test]
    fn jitter_stays_within_its_share() {
        let policy = RetryPolicy { jitter: 0.2, ..POLICY };
        for (random, expected) in [(0, 80), (u64::MAX / 2, 100), (u64::MAX, 120)] {
            let step = policy.after(&failure(FailureClass::Server), 1, NOTHING, random);
            let Step::Again { delay } = step else {
                unreachable!("a server failure is tried again");
            };
            let difference = delay.abs_diff(Duration::from_millis(expected));
            assert!(difference < Duration::from_micros(10), "{delay:?}");
        }
    }

    #[test]
    fn a_wait_without_a_cap_is_no_overflow() {
        let endless = Duration::MAX;
        let policy = RetryPolicy { backoff: endless, max_backoff: endless, jitter: 0.5, ..POLICY };
        let step = policy.after(&failure(FailureClass::Server), 1, NOTHING, u64::MAX);
        assert_eq!(step, Step::Again { delay: endless });
    }

    #[test]
    fn a_request_at_fault_is_tried_again_only_where_another_model_may_take_it() {
        let after = |class, left| POLICY.after(&failure(class), 1, left, 0);
        assert_eq!(after(FailureClass::Request, ALL), Step::GiveUp);
        for class in [FailureClass::ContextWindow, FailureClass::ContentPolicy] {
            assert_eq!(after(class, ALL), Step::NextModel);
            assert_eq!(after(class, Left { models: false, ..ALL }), Step::GiveUp);
        }
    }

    #[test]
    fn a_refused_credential_is_not_tried_twice_on_one_deployment() {
        let refused = failure(FailureClass::Credential);
        assert_eq!(POLICY.after(&refused, 1, Left::default(), 0), Step::GiveUp);
    }

    #[test]
    fn attempts_are_counted_over_all_deployments_and_models() {
        assert_eq!(POLICY.after(&failure(FailureClass::Server), 4, ALL, 0), Step::GiveUp);
    }

    #[test]
    fn the_vendors_wish_is_honoured_up_to_the_longest_wait() {
        let limited = failure(FailureClass::RateLimited);
        let in_seconds = |seconds| Left { again: Some(Duration::from_secs(seconds)), ..NOTHING };
        assert_eq!(POLICY.after(&limited, 1, in_seconds(2), 0), again(2000));
        assert_eq!(POLICY.after(&limited, 1, in_seconds(6), 0), Step::GiveUp);
    }

    #[test]
    fn without_fallback_the_same_deployment_is_tried_again() {
        let policy = RetryPolicy { fallback: false, ..POLICY };
        assert_eq!(policy.after(&failure(FailureClass::Server), 1, ALL, 0), again(100));
        assert_eq!(policy.after(&failure(FailureClass::ContextWindow), 1, ALL, 0), Step::GiveUp);
    }
}
