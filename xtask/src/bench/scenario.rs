//! What is asked of each subject.

/// Which of the mock vendor's faces answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Vendor {
    /// At once; streams have 100 chunks, 5 ms apart.
    Fast,
    /// After 50 ms.
    Slow,
    /// Streams whose chunks are seconds apart.
    Hold,
    /// As `Fast`, in Anthropic's dialect: the subject translates.
    Anthropic,
    /// As `Fast`, from the subject's cache.
    Cached,
}

/// How the load is made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Load {
    /// Each connection sends when it is answered; as many requests, in a quick run fewer.
    Requests { connections: u32, requests: u32, quick: u32 },
    /// Each connection sends when it is answered, for some time.
    Closed { connections: u32 },
    /// At half the rate of the same subject's `saturation`.
    HalfRate { connections: u32 },
    /// Streams that are held open.
    Hold { streams: u32 },
}

/// One kind of load.
#[derive(Debug)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    pub(crate) vendor: Vendor,
    pub(crate) load: Load,
    pub(crate) stream: bool,
    pub(crate) body_bytes: usize,
    /// Left out of quick runs.
    pub(crate) is_long: bool,
}

const BODY: usize = 1024;

/// Short for the table.
const fn scenario(name: &'static str, title: &'static str, vendor: Vendor, load: Load) -> Scenario {
    Scenario { name, title, vendor, load, stream: false, body_bytes: BODY, is_long: false }
}

/// All scenarios, in the order in which they run: `half-rate` needs `saturation` before it.
pub(crate) const SCENARIOS: &[Scenario] = &[
    scenario(
        "promise",
        "10,000 requests, 100 at once, vendor answers after 50 ms",
        Vendor::Slow,
        Load::Requests { connections: 100, requests: 10_000, quick: 2000 },
    ),
    scenario(
        "saturation",
        "64 connections, vendor answers at once, 1 KB bodies",
        Vendor::Fast,
        Load::Closed { connections: 64 },
    ),
    scenario("unloaded", "one request at a time", Vendor::Fast, Load::Closed { connections: 1 }),
    scenario(
        "half-rate",
        "open loop at half of the subject's own saturation",
        Vendor::Fast,
        Load::HalfRate { connections: 64 },
    ),
    Scenario {
        body_bytes: 20 << 10,
        ..scenario(
            "body-20k",
            "32 connections, 20 KB request bodies",
            Vendor::Fast,
            Load::Closed { connections: 32 },
        )
    },
    Scenario {
        body_bytes: 200 << 10,
        ..scenario(
            "body-200k",
            "32 connections, 200 KB request bodies",
            Vendor::Fast,
            Load::Closed { connections: 32 },
        )
    },
    scenario(
        "cross",
        "64 connections, OpenAI's dialect in, Anthropic's vendor",
        Vendor::Anthropic,
        Load::Closed { connections: 64 },
    ),
    scenario(
        "cache",
        "64 connections, answers from the cache",
        Vendor::Cached,
        Load::Closed { connections: 64 },
    ),
    Scenario {
        stream: true,
        ..scenario(
            "streams",
            "200 streams at once, 100 chunks each, 5 ms apart",
            Vendor::Fast,
            Load::Requests { connections: 200, requests: 800, quick: 400 },
        )
    },
    Scenario {
        stream: true,
        ..scenario(
            "cross-streams",
            "the same, translated from Anthropic's dialect",
            Vendor::Anthropic,
            Load::Requests { connections: 200, requests: 800, quick: 400 },
        )
    },
    Scenario {
        stream: true,
        ..scenario("open-2000", "2,000 open streams", Vendor::Hold, Load::Hold { streams: 2000 })
    },
    Scenario {
        stream: true,
        is_long: true,
        ..scenario("open-8000", "8,000 open streams", Vendor::Hold, Load::Hold { streams: 8000 })
    },
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::SCENARIOS;

    #[test]
    fn names_are_unique_and_the_half_rate_comes_after_what_it_is_half_of() {
        let names: BTreeSet<&str> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
        assert_eq!(names.len(), SCENARIOS.len());
        let place = |name| SCENARIOS.iter().position(|scenario| scenario.name == name);
        assert!(place("saturation").unwrap() < place("half-rate").unwrap());
    }
}
