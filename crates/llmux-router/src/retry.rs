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

/// What follows a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Ask the router again at once; another deployment is left.
    Elsewhere,
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
    /// Further attempts after the first.
    pub count: u32,
    /// The first wait; doubles with each attempt.
    pub backoff: Duration,
    /// The longest wait. A vendor that asks for a longer one is not waited for.
    pub max_backoff: Duration,
    /// Share of the wait, 0 to 1, by which chance lengthens or shortens it.
    pub jitter: f64,
    /// Whether other deployments may be tried.
    pub fallback: bool,
}

impl RetryPolicy {
    /// Decides what follows the failure of attempt number `attempts` (the first is 1).
    ///
    /// `others` says whether a deployment is left that this request has not tried; `random` is a uniformly random
    /// number. Moving to another deployment needs no wait; the same one gets the doubled wait or what it asked for.
    pub fn after(&self, failure: &Failure, attempts: u32, others: bool, random: u64) -> Step {
        if failure.class == FailureClass::Request || attempts > self.count {
            return Step::GiveUp;
        }
        if self.fallback && others {
            return Step::Elsewhere;
        }
        // The same credential will be refused again.
        if matches!(failure.class, FailureClass::Credential | FailureClass::Forbidden) {
            return Step::GiveUp;
        }
        let backoff = self.wait(attempts, random);
        match failure.retry_after {
            Some(asked) if asked > self.max_backoff => Step::GiveUp,
            Some(asked) => Step::Again { delay: asked.max(backoff) },
            None => Step::Again { delay: backoff },
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
        doubled.mul_f64(factor).min(self.max_backoff)
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

    fn failure(class: FailureClass) -> Failure {
        Failure { class, retry_after: None }
    }

    #[test]
    fn another_deployment_is_tried_without_a_wait() {
        for class in [FailureClass::Server, FailureClass::Credential, FailureClass::Forbidden] {
            assert_eq!(POLICY.after(&failure(class), 1, true, 0), Step::Elsewhere);
        }
    }

    #[test]
    fn the_wait_doubles_up_to_its_cap() {
        let waits: Vec<_> = (1..=3)
            .map(|attempt| POLICY.after(&failure(FailureClass::Server), attempt, false, 0))
            .collect();
        let expected = [100, 200, 400].map(|ms| Step::Again { delay: Duration::from_millis(ms) });
        assert_eq!(waits, expected);
        let many = RetryPolicy { count: 100, ..POLICY };
        assert_eq!(
            many.after(&failure(FailureClass::Server), 90, false, 0),
            Step::Again { delay: Duration::from_secs(5) }
        );
    }

    #[test]
    fn jitter_stays_within_its_share() {
        let policy = RetryPolicy { jitter: 0.2, ..POLICY };
        for (random, expected) in [(0, 80), (u64::MAX / 2, 100), (u64::MAX, 120)] {
            let Step::Again { delay } =
                policy.after(&failure(FailureClass::Server), 1, false, random)
            else {
                unreachable!("a server failure is tried again");
            };
            assert!(
                delay.abs_diff(Duration::from_millis(expected)) < Duration::from_micros(10),
                "{delay:?}"
            );
        }
    }

    #[test]
    fn a_request_at_fault_is_never_tried_again() {
        assert_eq!(POLICY.after(&failure(FailureClass::Request), 1, true, 0), Step::GiveUp);
    }

    #[test]
    fn a_refused_credential_is_not_tried_twice_on_one_deployment() {
        assert_eq!(POLICY.after(&failure(FailureClass::Credential), 1, false, 0), Step::GiveUp);
    }

    #[test]
    fn attempts_are_counted_over_all_deployments() {
        assert_eq!(POLICY.after(&failure(FailureClass::Server), 4, true, 0), Step::GiveUp);
    }

    #[test]
    fn the_vendors_wish_is_honoured_up_to_the_longest_wait() {
        let asked = |seconds| Failure {
            class: FailureClass::RateLimited,
            retry_after: Some(Duration::from_secs(seconds)),
        };
        assert_eq!(
            POLICY.after(&asked(2), 1, false, 0),
            Step::Again { delay: Duration::from_secs(2) }
        );
        assert_eq!(POLICY.after(&asked(6), 1, false, 0), Step::GiveUp);
    }

    #[test]
    fn without_fallback_the_same_deployment_is_tried_again() {
        let policy = RetryPolicy { fallback: false, ..POLICY };
        assert_eq!(
            policy.after(&failure(FailureClass::Server), 1, true, 0),
            Step::Again { delay: Duration::from_millis(100) }
        );
    }
}
