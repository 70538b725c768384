//! The situations that routing is judged by.

use llmux_router::Price;
use llmux_types::FailureClass;

use crate::vendor::{Trouble, Vendor};

/// How requests come.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Arrivals {
    /// By chance, however the answers come; so many per second on average.
    PerSecond(f64),
    /// From so many clients, each of which pauses after an answer, for so many milliseconds on average.
    Clients { number: usize, pause_ms: f64 },
}

/// One situation.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    /// How long requests come.
    pub(crate) seconds: u64,
    pub(crate) arrivals: Arrivals,
    /// Share of requests that want a stream.
    pub(crate) streams: f64,
    /// Median tokens of requests.
    pub(crate) input_tokens: f64,
    /// Median tokens of answers.
    pub(crate) output_tokens: f64,
    pub(crate) max_output: Option<u64>,
    pub(crate) vendors: Vec<Vendor>,
    /// From and to which second the first vendor is in trouble, if it is for a while only.
    pub(crate) incident: Option<(u64, u64)>,
}

impl Scenario {
    fn new(name: &'static str, about: &'static str, vendors: Vec<Vendor>) -> Self {
        Self {
            name,
            about,
            seconds: 240,
            arrivals: Arrivals::PerSecond(40.0),
            streams: 0.5,
            input_tokens: 400.0,
            output_tokens: 120.0,
            max_output: None,
            vendors,
            incident: None,
        }
    }

    fn with_incident(mut self, from: u64, to: u64, trouble: Trouble) -> Self {
        self.vendors[0].troubles.push((from, to, trouble));
        self.incident = Some((from, to));
        self
    }
}

/// Three vendors of the same speed.
fn equal() -> Vec<Vendor> {
    ["a", "b", "c"].map(|name| Vendor::new(name, 300.0, 4.0)).to_vec()
}

fn failing(share: f64, class: FailureClass, after_ms: f64) -> Trouble {
    Trouble::Failing { share, class, after_ms }
}

/// All scenarios.
pub(crate) fn all() -> Vec<Scenario> {
    let always = |mut vendors: Vec<Vendor>, trouble| {
        vendors[0].troubles.push((0, u64::MAX, trouble));
        vendors
    };
    let each = |change: fn(usize, &mut Vendor)| {
        let mut vendors = equal();
        vendors.iter_mut().enumerate().for_each(|(index, vendor)| change(index, vendor));
        vendors
    };
    vec![
        Scenario::new("steady", "three equal deployments", equal()),
        Scenario::new("slow-one", "a is ten times slower from 60 s to 120 s", equal())
            .with_incident(60, 120, Trouble::Slow(10.0)),
        Scenario::new(
            "failing-half",
            "half of a's calls fail with 500 after 150 ms",
            always(equal(), failing(0.5, FailureClass::Server, 150.0)),
        ),
        Scenario::new(
            "failing-fast",
            "a fifth of a's calls fails within 5 ms: too few for a cooldown",
            always(equal(), failing(0.2, FailureClass::Server, 5.0)),
        ),
        Scenario {
            arrivals: Arrivals::PerSecond(10.0),
            ..Scenario::new(
                "rate-limited",
                "vendors allow 120, 240 and 480 requests a minute, 600 come; the router is not told",
                each(|index, vendor| vendor.vendor_rpm = Some(120 << index)),
            )
        },
        Scenario {
            arrivals: Arrivals::PerSecond(10.0),
            ..Scenario::new(
                "known-limits",
                "the same, and the router is told",
                each(|index, vendor| {
                    vendor.vendor_rpm = Some(120 << index);
                    vendor.rpm = Some(120 << index);
                }),
            )
        },
        Scenario {
            arrivals: Arrivals::Clients { number: 40, pause_ms: 300.0 },
            ..Scenario::new("brown-out", "a refuses connections from 60 s to 120 s", equal())
                .with_incident(60, 120, failing(1.0, FailureClass::Connect, 2.0))
        },
        Scenario {
            max_output: Some(400),
            ..Scenario::new(
                "prices",
                "a is cheap and slow, b in between, c dear and fast",
                vec![
                    Vendor::new("a", 600.0, 8.0),
                    Vendor {
                        price: Price { input: Some(500_000), output: Some(2_000_000) },
                        ..Vendor::new("b", 350.0, 5.0)
                    },
                    Vendor {
                        price: Price { input: Some(2_500_000), output: Some(10_000_000) },
                        ..Vendor::new("c", 200.0, 3.0)
                    },
                ],
            )
        },
        Scenario::new(
            "unequal-weights",
            "weights 6, 3 and 1",
            each(|index, vendor| vendor.weight = Some([6, 3, 1][index])),
        ),
        Scenario {
            arrivals: Arrivals::PerSecond(0.2),
            seconds: 3600,
            ..Scenario::new(
                "low-traffic",
                "twelve requests a minute; a is ten times slower from 1200 s to 1800 s",
                equal(),
            )
            .with_incident(1200, 1800, Trouble::Slow(10.0))
        },
        Scenario {
            arrivals: Arrivals::PerSecond(60.0),
            ..Scenario::new(
                "crowded",
                "each becomes slower beyond 20 calls in flight, about 48 come together",
                each(|_, vendor| vendor.capacity = Some(20)),
            )
        },
        Scenario {
            arrivals: Arrivals::Clients { number: 60, pause_ms: 100.0 },
            ..Scenario::new(
                "max-concurrent",
                "the router may have 30, 15 and 5 calls in flight, 60 clients want more",
                each(|index, vendor| vendor.max_concurrent = Some([30, 15, 5][index])),
            )
        },
    ]
}

/// Returns the scenario of that name.
pub(crate) fn named(name: &str) -> Option<Scenario> {
    all().into_iter().find(|scenario| scenario.name == name)
}
