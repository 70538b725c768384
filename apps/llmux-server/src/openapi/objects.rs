//! The objects of the management plane and of the gateway as a whole.

use serde_json::{Map, Value, json};

use super::schema::{T, Table, list_of, object, properties, reference};

const LIMITS: &Table = &[
    ("models", T::List(&T::Text), "The models that may be used; an empty list allows all."),
    ("rpm_limit", T::Opt(&T::Count), "Requests per minute. `null`: no limit; `0`: none."),
    ("tpm_limit", T::Opt(&T::Count), "Tokens per minute. `null`: no limit; `0`: none."),
    (
        "max_parallel_requests",
        T::Opt(&T::Count),
        "Requests at the same time. `null`: no limit; `0`: none.",
    ),
    ("model_rpm_limit", T::Map(&T::Count), "Requests per minute of single models."),
    ("model_tpm_limit", T::Map(&T::Count), "Tokens per minute of single models."),
];

const BUDGET: &Table = &[
    (
        "max_budget",
        T::Opt(&T::Money),
        "The most that may be spent in a window, in US dollars. `null`: no limit; `0`: nothing.",
    ),
    (
        "soft_budget",
        T::Opt(&T::Money),
        "From where on replies carry `x-llmux-soft-budget`, in US dollars.",
    ),
    (
        "budget_duration",
        T::Opt(&T::Period),
        "How long a window lasts; windows follow each other from the creation. `null`: there is one, without end.",
    ),
    ("budget_reset_at", T::Opt(&T::Time), "When the window ends; `null` without a duration."),
    ("model_max_budget", T::Map(&T::Ref("ModelBudget")), "Budgets of single models."),
    ("spend", T::Money, "What was spent in the window, in US dollars."),
    (
        "model_spend",
        T::Map(&T::Ref("ModelSpend")),
        "What was spent on the models that have budgets.",
    ),
    ("budget_anchor_at", T::Time, "From when on windows follow each other."),
    ("spend_since", T::Time, "The start of the window that `spend` belongs to."),
];

const TIMES: &Table = &[
    ("created_at", T::Time, "When it was made."),
    ("updated_at", T::Time, "When it was last changed."),
];

const AUTHORS: &Table = &[
    ("created_by", T::Opt(&T::Text), "Who made it."),
    ("updated_by", T::Opt(&T::Text), "Who changed it last."),
];

const KEY: &Table = &[
    ("token", T::Text, "The SHA-256 of the key, in hexadecimal digits."),
    ("token_id", T::Text, "The key's id, which survives a regenerate."),
    ("key_name", T::Text, "The masked key."),
    ("key_alias", T::Opt(&T::Text), "A unique name."),
    (
        "key_type",
        T::KeyType,
        "What the key is for: all that its user may do, models only, management only, reading only.",
    ),
    ("user_id", T::Opt(&T::Text), "The user whose key it is."),
    ("team_id", T::Opt(&T::Text), "The team that the key spends for."),
    (
        "organization_id",
        T::Opt(&T::Text),
        "The organization that it spends for; that of the team, if the key has a team.",
    ),
    ("tags", T::List(&T::Text), "The tags that its clients may ask for; an empty list allows all."),
    ("metadata", T::Object, "The operator's notes."),
    ("blocked", T::Flag, "Whether it is blocked."),
    ("expires", T::Opt(&T::Time), "From when on it is not valid any more; `null`: never."),
    ("last_used_at", T::Opt(&T::Time), "When it was last used, as far as it is written down."),
];

const TEAM: &Table = &[
    ("team_id", T::Text, "The team's id."),
    ("team_alias", T::Opt(&T::Text), "A unique name."),
    ("organization_id", T::Opt(&T::Text), "The organization that the team belongs to."),
    ("tags", T::List(&T::Text), "The tags that its clients may ask for; an empty list allows all."),
    ("metadata", T::Object, "The operator's notes."),
    ("blocked", T::Flag, "Whether it is blocked, with all of its keys."),
];

const USER: &Table = &[
    ("user_id", T::Text, "The user's id."),
    ("user_alias", T::Opt(&T::Text), "A name."),
    ("user_email", T::Opt(&T::Text), "A unique address."),
    ("user_role", T::Role, "What the user may do on the management plane."),
    ("metadata", T::Object, "The operator's notes."),
];

const ORGANIZATION: &Table = &[
    ("organization_id", T::Text, "The organization's id."),
    ("organization_alias", T::Opt(&T::Text), "A unique name."),
    ("metadata", T::Object, "The operator's notes."),
];

const TEAM_MEMBER: &Table = &[
    ("team_id", T::Text, "The team."),
    ("user_id", T::Text, "The user."),
    ("role", T::MemberRole, "What the user may do in the team."),
];

const IN_TEAM: &Table = &[(
    "max_budget_in_team",
    T::Opt(&T::Money),
    "The same as the member's `max_budget`, as LiteLLM calls it.",
)];

const ORGANIZATION_MEMBER: &Table = &[
    ("organization_id", T::Text, "The organization."),
    ("user_id", T::Text, "The user."),
    ("user_role", T::OrganizationRole, "What the user may do in the organization."),
];

const TOTALS: &Table = &[
    (
        "api_requests",
        T::Count,
        "Requests: records of a first attempt, or of an answer from the cache.",
    ),
    ("attempts", T::Count, "Records, answers from the cache among them."),
    ("failed_attempts", T::Count, "Records that are not a success."),
    ("cache_hits", T::Count, "Records of answers from the cache."),
    ("prompt_tokens", T::Count, "Tokens of prompts."),
    ("completion_tokens", T::Count, "Tokens of answers."),
    ("total_tokens", T::Count, "All tokens."),
    ("spend", T::Money, "What they cost, in US dollars."),
];

const RECORD: &Table = &[
    ("id", T::Text, "The record's own id."),
    ("request_id", T::Text, "The request that it belongs to."),
    ("attempt", T::Count, "Which attempt of its request it is, from 1 on; 0: the cache answered."),
    ("call_type", T::Text, "The kind of call, such as `chat_completion`."),
    ("api_key", T::Opt(&T::Text), "The `token_id` of the key."),
    ("user", T::Opt(&T::Text), "The key's user."),
    ("team_id", T::Opt(&T::Text), "The key's team."),
    ("organization_id", T::Opt(&T::Text), "The key's or the team's organization."),
    ("end_user", T::Opt(&T::Text), "The end user that the client named."),
    ("model", T::Text, "The configured name of the model."),
    ("model_group", T::Text, "The same as `model`."),
    ("upstream_model", T::Opt(&T::Text), "The provider's name of the model."),
    ("custom_llm_provider", T::Opt(&T::Text), "The provider that was called."),
    ("deployment_id", T::Opt(&T::Text), "The deployment that was called."),
    ("startTime", T::Time, "When the attempt began."),
    ("endTime", T::Time, "When it ended."),
    ("time_to_first_token_ms", T::Opt(&T::Count), "Milliseconds until the first output."),
    ("status", T::UsageStatus, "How it ended."),
    ("status_code", T::Opt(&T::Count), "The HTTP status that the provider gave."),
    ("error_code", T::Opt(&T::Text), "The code of its error."),
    ("cache_hit", T::Flag, "Whether the cache answered."),
    ("stream", T::Flag, "Whether the answer was streamed."),
    ("prompt_tokens", T::Count, "Tokens of the prompt, with cached ones."),
    ("completion_tokens", T::Count, "Tokens of the answer, with reasoning."),
    ("total_tokens", T::Count, "All tokens."),
    ("cached_tokens", T::Count, "Tokens of the prompt read from the provider's cache."),
    ("cache_write_tokens", T::Count, "Tokens of the prompt written to the provider's cache."),
    ("reasoning_tokens", T::Count, "Tokens of reasoning."),
    ("spend", T::Money, "What it cost, in US dollars, exact to the nano-dollar."),
    ("request_tags", T::List(&T::Text), "The tags of the request."),
    ("metadata", T::Object, "Further details."),
];

const SPENT: &Table = &[
    ("spend", T::Money, "What was spent in the present window, in US dollars."),
    ("max_budget", T::Opt(&T::Money), "The most that may be spent in a window."),
    ("soft_budget", T::Opt(&T::Money), "From where on replies carry a warning."),
    ("budget_duration", T::Opt(&T::Period), "How long a window lasts."),
    ("budget_reset_at", T::Opt(&T::Time), "When the window ends."),
];

const KEY_SPEND: &Table = &[
    ("token_id", T::Text, "The key's id."),
    ("key_name", T::Text, "The masked key."),
    ("key_alias", T::Opt(&T::Text), "The key's name."),
    ("user_id", T::Opt(&T::Text), "The key's user."),
    ("team_id", T::Opt(&T::Text), "The key's team."),
    ("organization_id", T::Opt(&T::Text), "The key's organization."),
];

const TEAM_SPEND: &Table = &[
    ("team_id", T::Text, "The team's id."),
    ("team_alias", T::Opt(&T::Text), "The team's name."),
    ("organization_id", T::Opt(&T::Text), "The team's organization."),
];

const USER_SPEND: &Table = &[
    ("user_id", T::Text, "The user's id."),
    ("user_alias", T::Opt(&T::Text), "The user's name."),
    ("user_email", T::Opt(&T::Text), "The user's address."),
];

const ACTIVITY: &Table = &[
    ("daily_data", T::List(&T::Ref("DayTotals")), "The days that had usage, in their order."),
    ("sum_api_requests", T::Count, "Requests of all days."),
    ("sum_attempts", T::Count, "Records of all days."),
    ("sum_failed_attempts", T::Count, "Records that are not a success."),
    ("sum_cache_hits", T::Count, "Answers from the cache."),
    ("sum_prompt_tokens", T::Count, "Tokens of prompts."),
    ("sum_completion_tokens", T::Count, "Tokens of answers."),
    ("sum_total_tokens", T::Count, "All tokens."),
    ("sum_spend", T::Money, "What they cost, in US dollars."),
    ("total_cost", T::Money, "The same as `sum_spend`."),
    (
        "success_rate",
        T::Opt(&T::Number),
        "The part of the records that are a success, 0 to 1; `null` without any.",
    ),
    ("unique_models", T::Count, "Different models."),
    ("unique_providers", T::Count, "Different providers."),
];

const AUDIT: &Table = &[
    ("id", T::Text, "The record's id."),
    ("updated_at", T::Time, "When it was done."),
    ("changed_by", T::Text, "The user who did it, or a word for who holds the master key."),
    ("changed_by_api_key", T::Opt(&T::Text), "The `token_id` of the key that was used."),
    ("action", T::Text, "What was done, such as `created`."),
    ("table_name", T::Text, "To which kind of object, such as `key`."),
    ("object_id", T::Text, "To which one."),
    ("request_id", T::Opt(&T::Text), "The request that asked for it."),
    ("before_value", T::Any, "The object before, or `null`."),
    ("updated_values", T::Any, "The object after, or what was written."),
];

/// The state of a deployment as its router knows it.
const ROUTER_STATE: &Table = &[
    ("deployment", T::Text, "The deployment's id: `<provider>/<model>`."),
    ("weight", T::Count, "Its share of the traffic."),
    ("tags", T::List(&T::Text), "Its tags."),
    ("in_flight", T::Count, "Calls without an outcome so far."),
    ("max_concurrent", T::Opt(&T::Count), "The most calls in flight; `null`: no limit."),
    ("rpm", T::Opt(&T::Count), "The most requests of a minute; `null`: no limit."),
    ("tpm", T::Opt(&T::Count), "The most tokens of a minute; `null`: no limit."),
    ("requests", T::Count, "Requests of the last minute."),
    ("tokens", T::Count, "Tokens of the last minute, reserved ones included."),
    ("calls", T::Count, "Calls of the last minute that ended, well or badly."),
    ("failures", T::Count, "Those that ended badly."),
    (
        "state",
        T::Choice(&["available", "cooling", "trial", "probing"]),
        "`trial`: the next call shows whether it works again; `probing`: that call is out.",
    ),
    (
        "cooldown",
        T::Opt(&T::Choice(&["failures", "rate_limited", "credential", "manual"])),
        "Why it is not simply available.",
    ),
    ("cooldown_left_ms", T::Opt(&T::Count), "For how much longer it cools down, in milliseconds."),
    (
        "first_output_ms",
        T::Opt(&T::Number),
        "Recent mean time to the first output of a stream, in milliseconds.",
    ),
    ("latency_ms", T::Opt(&T::Number), "Recent mean duration of a whole answer, in milliseconds."),
    ("success_rate", T::Number, "Share of recent calls that ended well, 0 to 1."),
];

const DEPLOYMENT: &Table = &[
    ("deployment_id", T::Text, "The same as `deployment`."),
    ("model", T::Text, "The model's configured name."),
    ("provider", T::Text, "The provider's name."),
    (
        "upstream_model",
        T::Opt(&T::Text),
        "What the provider is asked for; `null`: what the client asks for.",
    ),
    ("strategy", T::Text, "How a deployment of this model is chosen."),
    ("cooldown_active", T::Flag, "Whether it cools down."),
    ("provider_in_flight", T::Count, "Calls in flight at the provider, over all of its models."),
    ("provider_max_concurrent", T::Count, "The most of them; `0`: no limit."),
];

const CANDIDATE: &Table = &[
    (
        "measure",
        T::Any,
        "What the strategy compares: a word, or an object of one figure by its name, such as `{\"expected_ms\": 210.0}`.",
    ),
    ("provider", T::Text, "The provider's name."),
    ("upstream_model", T::Text, "What the provider would be asked for."),
];

const EXCLUDED: &Table = &[
    ("deployment", T::Text, "The deployment's id."),
    ("provider", T::Text, "The provider's name."),
    ("upstream_model", T::Text, "What the provider would be asked for."),
    (
        "reason",
        T::Choice(&[
            "not_allowed",
            "tags",
            "busy",
            "limited",
            "cooling",
            "probing",
            "tried",
            "standby",
        ]),
        "Why it was no candidate.",
    ),
];

const EXPLANATION: &Table = &[
    ("model", T::Text, "The model as the request names it."),
    ("route", T::Text, "The configured name that it matches."),
    ("stream", T::Flag, "Whether a stream is asked for."),
    ("tags", T::List(&T::Text), "The request's tags."),
    ("input_tokens", T::Count, "Tokens of the input, estimated."),
    ("max_output_tokens", T::Opt(&T::Count), "The most tokens of the answer, if it is known."),
    ("strategy", T::Text, "What chooses."),
    ("chosen", T::Opt(&T::Text), "The id of the chosen deployment."),
    ("why", T::Text, "Why it was chosen, or why none was."),
    ("candidates", T::List(&T::Ref("Candidate")), "Those among which was chosen."),
    ("excluded", T::List(&T::Ref("ExcludedDeployment")), "All others."),
    ("fallbacks", T::List(&T::Text), "The models that it would go on with after failures."),
    ("context_window_fallbacks", T::List(&T::Text), "The same, for requests that are too long."),
    ("content_policy_fallbacks", T::List(&T::Text), "The same, for refused content."),
];

const CONFIGURATION: &Table = &[
    ("path", T::Opt(&T::Text), "The configuration file as it was named; `null`: there is none."),
    ("checksum", T::Opt(&T::Text), "The SHA-256 of the file, in hexadecimal digits."),
    ("loaded_at", T::Time, "When the configuration that counts was loaded."),
    ("reload_count", T::Count, "Configurations that were applied, the one of the start included."),
    ("rejected_count", T::Count, "Configurations that were refused."),
    (
        "restart_required",
        T::List(&T::Text),
        "Keys whose values in the file count from the next start on only.",
    ),
    ("warnings", T::List(&T::Text), "What `llmux-server check` warns of."),
    ("last_error", T::Opt(&T::Ref("RejectedConfiguration")), "Why the last attempt failed."),
];

const TIER: &Table = &[
    ("tier", T::Text, "Where the answers are: `local` or `redis`."),
    ("healthy", T::Flag, "Whether it can be used at the moment."),
    ("entries", T::Opt(&T::Count), "Answers in it, where that is known."),
    ("bytes", T::Opt(&T::Count), "Their size, where that is known."),
    ("hits", T::Count, "Answers found."),
    ("misses", T::Count, "Answers not found."),
    ("writes", T::Count, "Answers written."),
    ("evictions", T::Count, "Answers that had to go."),
    ("failures", T::Count, "Calls that failed."),
    ("skipped", T::Count, "Calls that were not made because it was not healthy."),
];

const CACHE: &Table = &[
    ("enabled", T::Flag, "Whether answers are kept."),
    ("type", T::Choice(&["local", "redis", "dual"]), "Where."),
    ("scope", T::Choice(&["key", "team", "organization", "global"]), "Who shares answers."),
    ("namespace", T::Text, "The prefix of the keys in a shared cache."),
    ("ttl_seconds", T::Number, "How long an answer is good, in seconds."),
    ("calls_in_flight", T::Count, "Calls that requests share at this moment."),
    ("tiers", T::List(&T::Ref("CacheTier")), "What the caches did since the start."),
];

const STATE: &Table = &[
    ("in_flight", T::Count, "Requests whose answers are not complete, this one included."),
    ("draining", T::Flag, "Whether the gateway is shutting down."),
    ("reservations", T::Ref("Reservations"), "What is held for calls under way."),
    ("spool", T::Ref("Spool"), "Usage records on their way to the database."),
    ("keys", T::Ref("RememberedKeys"), "Keys that are remembered."),
];

/// The schemas of all objects of answers, by name.
pub(super) fn schemas() -> Map<String, Value> {
    let entities = [
        ("Key", "A key, without its secret.", &[KEY, LIMITS, BUDGET, TIMES, AUTHORS][..]),
        ("Team", "A team in a list.", &[TEAM, LIMITS, BUDGET, TIMES]),
        ("User", "A user in a list.", &[USER, LIMITS, BUDGET, TIMES]),
        (
            "Organization",
            "An organization in a list.",
            &[ORGANIZATION, LIMITS, BUDGET, TIMES, AUTHORS],
        ),
        ("TeamMembership", "A user's place in a team.", &[TEAM_MEMBER, BUDGET, TIMES]),
        ("TeamMember", "A member of a team.", &[TEAM_MEMBER, BUDGET, TIMES, IN_TEAM]),
        ("OrganizationMember", "A user's place in an organization.", &[ORGANIZATION_MEMBER, TIMES]),
        (
            "UsageRecord",
            "What one attempt, or one answer from the cache, used and cost.",
            &[RECORD],
        ),
        ("KeySpend", "What is spent of a key's budget.", &[KEY_SPEND, SPENT]),
        ("TeamSpend", "What is spent of a team's budget.", &[TEAM_SPEND, SPENT]),
        ("UserSpend", "What is spent of a user's budget.", &[USER_SPEND, SPENT]),
        ("DayTotals", "The sums of a day.", &[&[("date", T::Day, "The day, in UTC.")], TOTALS]),
        (
            "ModelTotals",
            "The sums of a model.",
            &[&[("model", T::Text, "Its configured name.")], TOTALS],
        ),
        (
            "ProviderTotals",
            "The sums of a provider.",
            &[
                &[("provider", T::Text, "Its name; empty for what no provider was asked for.")],
                TOTALS,
            ],
        ),
        ("Activity", "What was used, day by day, and sums of all days.", &[ACTIVITY]),
        ("AuditRecord", "One change, without secrets.", &[AUDIT]),
        ("Deployment", "The state of a deployment.", &[DEPLOYMENT, ROUTER_STATE]),
        ("Candidate", "A deployment that could be chosen.", &[CANDIDATE, ROUTER_STATE]),
        ("ExcludedDeployment", "A deployment that could not be chosen.", &[EXCLUDED]),
        ("Explanation", "Where a request would go, and why.", &[EXPLANATION]),
        ("Configuration", "The configuration that counts.", &[CONFIGURATION]),
        (
            "RejectedConfiguration",
            "A configuration that was not applied.",
            &[&[
                ("at", T::Time, "When it was tried."),
                ("problems", T::List(&T::Text), "What is wrong with it."),
            ]],
        ),
        ("CacheTier", "A cache.", &[TIER]),
        (
            "CacheStats",
            "What the response cache has, and what became of it since the start.",
            &[CACHE],
        ),
        ("State", "What is under way and what waits.", &[STATE]),
        (
            "Reservations",
            "What is held for calls under way.",
            &[&[
                ("scopes", T::Count, "Keys, users, teams and organizations with limits in use."),
                ("requests", T::Count, "Reservations of requests under way."),
                ("money", T::Number, "Reserved US dollars."),
            ]],
        ),
        (
            "Spool",
            "Usage records on their way to the database.",
            &[&[
                ("backlog_bytes", T::Count, "Their size."),
                ("dropped_records", T::Count, "Records that were dropped."),
                ("refuses_requests", T::Flag, "Whether requests are refused because it is full."),
            ]],
        ),
        (
            "RememberedKeys",
            "Keys that are remembered.",
            &[&[
                ("cached", T::Count, "How many."),
                ("reads", T::Count, "How often the database was asked for one."),
            ]],
        ),
        (
            "Cooldown",
            "The cooldown of a deployment.",
            &[&[
                ("deployment_id", T::Text, "The deployment's id."),
                ("cooldown_until", T::Opt(&T::Time), "When it ends; `null`: there is none."),
                ("cooldown_active", T::Flag, "Whether it cools down."),
            ]],
        ),
        (
            "Flushed",
            "What became of a flush.",
            &[&[
                ("removed", T::Count, "Answers that were removed."),
                ("complete", T::Flag, "Whether all caches could be emptied."),
            ]],
        ),
        (
            "ModelSpend",
            "What was spent on a model.",
            &[&[
                ("spend", T::Money, "US dollars."),
                ("since", T::Time, "The start of the window."),
            ]],
        ),
    ];
    let entity =
        |(name, about, tables): (&str, &str, &[&Table])| (name.to_owned(), object(about, tables));
    let mut schemas: Map<String, Value> = entities.into_iter().map(entity).collect();
    let more = [
        ("KeyWithSecret", "Key", "A key with its secret: the only time it is shown.", secret()),
        ("TeamWithMembers", "Team", "A team with its members.", members_with_roles()),
        ("UserWithPlaces", "User", "A user with the places in teams and organizations.", places()),
        ("OrganizationWithMembers", "Organization", "An organization with its members.", members()),
    ];
    for (name, base, about, own) in more {
        let schema = json!({"description": about, "allOf": [reference(base), own]});
        schemas.insert(name.to_owned(), schema);
    }
    for name in [
        "Key",
        "Team",
        "User",
        "Organization",
        "OrganizationMember",
        "UsageRecord",
        "DayTotals",
        "KeySpend",
        "TeamSpend",
        "UserSpend",
        "ModelTotals",
        "ProviderTotals",
        "AuditRecord",
    ] {
        schemas.insert(format!("{name}List"), list_of(name));
    }
    schemas.insert("ModelBudget".to_owned(), model_budget());
    let sometimes: &Table = &[
        ("cooldown", T::Text, "Why it cools or cooled down."),
        ("left_ms", T::Count, "For how much longer, in milliseconds."),
        ("retry_after_ms", T::Count, "When the reason is gone, in milliseconds, if that is known."),
    ];
    let excluded = schemas["ExcludedDeployment"]["properties"].as_object_mut();
    excluded.into_iter().for_each(|excluded| excluded.extend(properties(sometimes)));
    schemas
}

fn secret() -> Value {
    object("", &[&[("key", T::Text, "The key itself.")]])
}

fn members_with_roles() -> Value {
    object("", &[&[("members_with_roles", T::List(&T::Ref("TeamMember")), "Its members.")]])
}

fn members() -> Value {
    object("", &[&[("members", T::List(&T::Ref("OrganizationMember")), "Its members.")]])
}

fn places() -> Value {
    let table: &Table = &[
        ("teams", T::List(&T::Text), "The ids of the user's teams."),
        ("team_memberships", T::List(&T::Ref("TeamMembership")), "The user's places in them."),
        (
            "organization_memberships",
            T::List(&T::Ref("OrganizationMember")),
            "The user's places in organizations.",
        ),
        ("key_count", T::Count, "How many keys the user has."),
    ];
    object("", &[table])
}

/// A number of dollars, or a number and a window of its own.
fn model_budget() -> Value {
    json!({
        "description": "The budget of a model in US dollars, in the windows of the whole budget or in its own. \
            `max_budget` and `budget_duration` are taken as names, too.",
        "anyOf": [
            T::Budget.schema(),
            {
                "type": "object",
                "properties": {
                    "budget_limit": T::Budget.schema(), "max_budget": T::Budget.schema(),
                    "time_period": T::Opt(&T::Period).schema(), "budget_duration": T::Opt(&T::Period).schema(),
                },
                "oneOf": [{"required": ["budget_limit"]}, {"required": ["max_budget"]}],
                "not": {"required": ["time_period", "budget_duration"]},
                "additionalProperties": false,
            },
        ],
    })
}
