//! Where handles of series come from.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use llmux_types::Money;
use metrics::{Counter, Histogram, Key, Label, Level, Metadata, Recorder as _};
use metrics_exporter_prometheus::{
    Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};

use super::families::{ALL, Family, Kind};
use super::page::Page;

static METADATA: Metadata<'static> = Metadata::new("llmux", Level::INFO, None);

/// An amount of money that grows: the recorder's counters are whole numbers, and a dollar is a lot.
#[derive(Debug, Default)]
pub(super) struct Sum {
    nanos: AtomicI64,
}

impl Sum {
    pub(super) fn add(&self, money: Money) {
        self.nanos.fetch_add(money.nanos(), Ordering::Relaxed);
    }

    fn get(&self) -> Money {
        Money::from_nanos(self.nanos.load(Ordering::Relaxed))
    }
}

/// The number of a label's value. Only configured names have one, so that there are few.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Name(u32);

impl Name {
    /// No value: the label is empty.
    pub(crate) const NONE: Self = Self(0);
    /// What clients ask for and nobody configured.
    pub(crate) const UNKNOWN: Self = Self(1);
}

/// The sums of a family by their labels.
type Sums = BTreeMap<Vec<String>, Arc<Sum>>;

/// Makes series, the same one for the same labels. If nothing is measured, the handles lead nowhere.
#[derive(Debug)]
pub(super) struct Registry {
    recorder: Option<PrometheusRecorder>,
    names: Mutex<Vec<Arc<str>>>,
    sums: Mutex<BTreeMap<&'static str, Sums>>,
}

impl Registry {
    pub(super) fn new(enabled: bool) -> Self {
        let recorder = enabled.then(|| {
            let histograms = ALL.iter().filter(|family| family.kind == Kind::Histogram);
            let builder = histograms.fold(PrometheusBuilder::new(), |builder, family| {
                let name = Matcher::Full(family.name.to_owned());
                builder
                    .set_buckets_for_metric(name, family.buckets)
                    .expect("each histogram has buckets")
            });
            let recorder = builder.build_recorder();
            for family in ALL {
                match family.kind {
                    Kind::Counter => {
                        recorder.describe_counter(family.name.into(), None, family.help.into());
                    }
                    Kind::Histogram => {
                        recorder.describe_histogram(family.name.into(), None, family.help.into());
                    }
                    // Those are read when somebody asks.
                    Kind::Gauge => {}
                }
            }
            recorder
        });
        let names = vec!["".into(), "unknown".into()];
        Self { recorder, names: Mutex::new(names), sums: Mutex::default() }
    }

    pub(super) const fn is_enabled(&self) -> bool {
        self.recorder.is_some()
    }

    /// Returns the number of a configured name.
    pub(super) fn intern(&self, text: &str) -> Name {
        let mut names = lock(&self.names);
        let known = names.iter().position(|name| **name == *text);
        let index = known.unwrap_or_else(|| {
            names.push(text.into());
            names.len() - 1
        });
        Name(u32::try_from(index).unwrap_or(Name::UNKNOWN.0))
    }

    pub(super) fn text(&self, name: Name) -> Arc<str> {
        lock(&self.names).get(name.0 as usize).cloned().unwrap_or_default()
    }

    /// Returns a series of a counter. `labels` are the values in the order of the family's names.
    pub(super) fn counter(&self, family: &'static Family, labels: &[&str]) -> Counter {
        match &self.recorder {
            Some(recorder) => recorder.register_counter(&key(family, labels), &METADATA),
            None => Counter::noop(),
        }
    }

    /// Returns a series of a histogram.
    pub(super) fn histogram(&self, family: &'static Family, labels: &[&str]) -> Histogram {
        match &self.recorder {
            Some(recorder) => recorder.register_histogram(&key(family, labels), &METADATA),
            None => Histogram::noop(),
        }
    }

    /// Returns a series of a family of money.
    pub(super) fn sum(&self, family: &'static Family, labels: &[&str]) -> Arc<Sum> {
        let labels = labels.iter().map(|&label| label.to_owned()).collect();
        let mut sums = lock(&self.sums);
        Arc::clone(sums.entry(family.name).or_default().entry(labels).or_default())
    }

    /// Adds the series of a family of money to a page.
    pub(super) fn write_sums(&self, family: &'static Family, page: &mut Page) {
        let sums = lock(&self.sums);
        let Some(series) = sums.get(family.name) else { return };
        page.family(family);
        for (labels, sum) in series {
            let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
            page.sample(family, &labels, sum.get());
        }
    }

    /// Returns what writes the recorder's families; `None` if nothing is measured.
    pub(super) fn handle(&self) -> Option<PrometheusHandle> {
        self.recorder.as_ref().map(PrometheusRecorder::handle)
    }
}

fn key(family: &'static Family, labels: &[&str]) -> Key {
    let labels = family.labels.iter().zip(labels);
    let labels = labels.map(|(&name, &value)| Label::new(name, value.to_owned()));
    Key::from_parts(family.name, labels.collect::<Vec<_>>())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A map or list is whole between two statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
