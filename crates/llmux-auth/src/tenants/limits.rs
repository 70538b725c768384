use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{Money, Period, UnixMillis};

/// What the holder may use and how fast. Absent limits limit nothing; `0` allows nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// The models that may be used; an empty list allows all.
    pub models: Vec<String>,
    /// Requests per minute.
    pub rpm_limit: Option<u64>,
    /// Tokens per minute.
    pub tpm_limit: Option<u64>,
    /// Requests at the same time.
    pub max_parallel_requests: Option<u64>,
    /// Requests per minute of single models.
    pub model_rpm_limit: BTreeMap<String, u64>,
    /// Tokens per minute of single models.
    pub model_tpm_limit: BTreeMap<String, u64>,
}

/// The budget of one model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelBudget {
    /// The most that may be spent in a window.
    pub max_budget: Money,
    /// How long its window lasts; absent: as long as that of the whole budget.
    pub budget_duration: Option<Period>,
}

/// What was spent on one model that has a budget.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelSpend {
    /// The amount since `since`.
    pub spend: Money,
    /// The start of the window that the amount belongs to.
    pub since: UnixMillis,
}

/// What may be spent, and what was. `spend` is that of the window which begins at `spend_since`: [`Budget::roll`] says
/// what it is at another time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Budget {
    /// The most that may be spent in a window.
    pub max_budget: Option<Money>,
    /// From where on replies carry a warning.
    pub soft_budget: Option<Money>,
    /// How long a window lasts; absent: there is one, without end.
    pub budget_duration: Option<Period>,
    /// When the window ends; absent without a duration.
    pub budget_reset_at: Option<UnixMillis>,
    /// Budgets of single models.
    pub model_max_budget: BTreeMap<String, ModelBudget>,
    /// What was spent in the window.
    pub spend: Money,
    /// What was spent on the models that have budgets.
    pub model_spend: BTreeMap<String, ModelSpend>,
    /// From when on windows follow each other: the time of creation.
    pub budget_anchor_at: UnixMillis,
    /// The start of the window that `spend` belongs to.
    pub spend_since: UnixMillis,
}

impl Budget {
    /// Makes an unlimited budget whose windows will roll from `now`.
    pub fn new(now: UnixMillis) -> Self {
        Self { budget_anchor_at: now, spend_since: now, ..Self::default() }
    }

    /// Moves on to the window that holds `now`, if that is a later one: nothing is spent in it yet.
    pub fn roll(&mut self, now: UnixMillis) {
        let anchor = self.budget_anchor_at;
        self.budget_reset_at = self.budget_duration.map(|duration| {
            let (start, end) = window(duration, anchor, now);
            if start > self.spend_since {
                self.spend = Money::ZERO;
                self.spend_since = start;
                end
            } else {
                window(duration, anchor, self.spend_since).1
            }
        });
        for (model, spent) in &mut self.model_spend {
            let own = self.model_max_budget.get(model).and_then(|budget| budget.budget_duration);
            if let Some(duration) = own.or(self.budget_duration) {
                let (start, _) = window(duration, anchor, now);
                if start > spent.since {
                    *spent = ModelSpend { spend: Money::ZERO, since: start };
                }
            }
        }
    }

    /// Adds what a call begun at `at` cost, unless its window is over. `model` is the one that was called.
    pub fn charge(&mut self, cost: Money, model: &str, at: UnixMillis) {
        let anchor = self.budget_anchor_at;
        if let Some(budget) = self.model_max_budget.get(model) {
            let duration = budget.budget_duration.or(self.budget_duration);
            let start = duration.map_or(anchor, |duration| window(duration, anchor, at).0);
            self.model_spend
                .entry(model.to_owned())
                .or_insert(ModelSpend { spend: Money::ZERO, since: start });
        }
        self.roll(at);
        let in_window = |duration: Option<Period>, since| {
            duration.is_none_or(|duration| window(duration, anchor, at).0 >= since)
        };
        if in_window(self.budget_duration, self.spend_since) {
            self.spend = self.spend.saturating_add(cost);
        }
        if let Some(budget) = self.model_max_budget.get(model)
            && let Some(spent) = self.model_spend.get_mut(model)
            && in_window(budget.budget_duration.or(self.budget_duration), spent.since)
        {
            spent.spend = spent.spend.saturating_add(cost);
        }
    }

    /// Changes how long windows last. What is spent in the present window stays spent.
    pub fn set_duration(&mut self, duration: Option<Period>, now: UnixMillis) {
        self.roll(now);
        self.budget_duration = duration;
        if let Some(duration) = duration {
            self.spend_since = window(duration, self.budget_anchor_at, now).0;
        }
        self.align_models(now);
        self.roll(now);
    }

    /// Replaces the budgets of models. What was spent on a model that keeps one stays spent.
    pub fn set_models(&mut self, models: BTreeMap<String, ModelBudget>, now: UnixMillis) {
        self.roll(now);
        self.model_spend.retain(|model, _| models.contains_key(model));
        self.model_max_budget = models;
        self.align_models(now);
        self.roll(now);
    }

    fn align_models(&mut self, now: UnixMillis) {
        for (model, spent) in &mut self.model_spend {
            let own = self.model_max_budget.get(model).and_then(|budget| budget.budget_duration);
            if let Some(duration) = own.or(self.budget_duration) {
                spent.since = window(duration, self.budget_anchor_at, now).0;
            }
        }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum ModelBudgetForm {
    Amount(Money),
    Window(ModelWindow),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ModelWindow {
    #[serde(alias = "max_budget")]
    budget_limit: Money,
    #[serde(alias = "budget_duration", default)]
    time_period: Option<Period>,
}

impl Serialize for ModelBudget {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.budget_duration {
            None => ModelBudgetForm::Amount(self.max_budget),
            time_period => {
                ModelBudgetForm::Window(ModelWindow { budget_limit: self.max_budget, time_period })
            }
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for ModelBudget {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match ModelBudgetForm::deserialize(deserializer) {
            Ok(ModelBudgetForm::Amount(max_budget)) => {
                Ok(Self { max_budget, budget_duration: None })
            }
            Ok(ModelBudgetForm::Window(window)) => {
                Ok(Self { max_budget: window.budget_limit, budget_duration: window.time_period })
            }
            Err(_) => Err(de::Error::custom(
                "a model's budget is a number of US dollars or {\"budget_limit\": 10, \"time_period\": \"1d\"}",
            )),
        }
    }
}

/// Returns start (inclusive) and end (exclusive) of the window that `at` is in.
fn window(period: Period, anchor: UnixMillis, at: UnixMillis) -> (UnixMillis, UnixMillis) {
    let (start, end) = period.window(anchor.0, at.0);
    (UnixMillis(start), UnixMillis(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000;

    fn hourly() -> Budget {
        let mut budget = Budget::new(UnixMillis(0));
        budget.set_duration(Some("1h".parse().unwrap()), UnixMillis(0));
        budget
    }

    #[test]
    fn a_new_window_begins_with_nothing_spent() {
        let mut budget = hourly();
        budget.charge(Money::from_nanos(5), "m", UnixMillis(HOUR - 1));
        budget.charge(Money::from_nanos(6), "m", UnixMillis(HOUR - 1));
        assert_eq!(budget.spend.nanos(), 11);
        assert_eq!(budget.budget_reset_at, Some(UnixMillis(HOUR)));
        budget.roll(UnixMillis(HOUR));
        assert_eq!(budget.spend, Money::ZERO);
        assert_eq!(budget.budget_reset_at, Some(UnixMillis(2 * HOUR)));
    }

    #[test]
    fn a_late_charge_of_an_ended_window_does_not_count_in_the_next() {
        let mut budget = hourly();
        budget.charge(Money::from_nanos(5), "m", UnixMillis(3 * HOUR));
        budget.charge(Money::from_nanos(7), "m", UnixMillis(2 * HOUR));
        assert_eq!(budget.spend.nanos(), 5);
        assert_eq!(budget.budget_reset_at, Some(UnixMillis(4 * HOUR)));
    }

    #[test]
    fn without_a_duration_all_charges_add_up() {
        let mut budget = Budget::new(UnixMillis(50));
        budget.charge(Money::from_nanos(5), "m", UnixMillis(HOUR));
        budget.charge(Money::from_nanos(7), "m", UnixMillis(90 * HOUR));
        assert_eq!((budget.spend.nanos(), budget.budget_reset_at), (12, None));
    }

    #[test]
    fn a_changed_duration_keeps_what_is_spent_now() {
        let mut budget = hourly();
        budget.charge(Money::from_nanos(5), "m", UnixMillis(10 * HOUR));
        budget.set_duration(Some("1d".parse().unwrap()), UnixMillis(10 * HOUR + 1));
        assert_eq!(budget.spend.nanos(), 5);
        budget.charge(Money::from_nanos(5), "m", UnixMillis(11 * HOUR));
        assert_eq!(budget.spend.nanos(), 10);
        budget.roll(UnixMillis(24 * HOUR));
        assert_eq!(budget.spend, Money::ZERO);
    }

    #[test]
    fn models_with_a_budget_have_their_own_windows() {
        let mut budget = Budget::new(UnixMillis(0));
        let models = serde_json::from_str(
            r#"{"a": 1, "b": {"budget_limit": 2, "time_period": "1h"}, "c": {"max_budget": 3}}"#,
        );
        budget.set_models(models.unwrap(), UnixMillis(0));
        for model in ["a", "b", "other"] {
            budget.charge(Money::from_nanos(1), model, UnixMillis(0));
            budget.charge(Money::from_nanos(2), model, UnixMillis(HOUR));
        }
        let spent = |model: &str| budget.model_spend.get(model).map(|spent| spent.spend.nanos());
        assert_eq!((spent("a"), spent("b"), spent("c")), (Some(3), Some(2), None));
        assert_eq!(spent("other"), None);
        assert_eq!(budget.spend.nanos(), 9);
    }

    #[test]
    fn a_models_budget_comes_back_as_it_was_given() {
        let text = r#"{"a":1.5,"b":{"budget_limit":2.5,"time_period":"1mo"}}"#;
        let models: BTreeMap<String, ModelBudget> = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&models).unwrap(), text);
        assert!(serde_json::from_str::<ModelBudget>(r#"{"budget_limit":1,"time":"1d"}"#).is_err());
    }
}
