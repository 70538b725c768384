//! The management API as the OpenAPI document has it. What bodies take comes from the tables that they are read with.

use serde_json::{Map, Value, json};

use super::Operation;
use super::fields::{BUDGET, Kind, Known, LIMITS};
use super::{keys, organizations, teams, users};
use crate::openapi::{Op, T, Table, described, or_null, properties, reference};

impl Kind {
    fn schema(self) -> Value {
        match self {
            Self::Name => T::Name,
            Self::Names => T::List(&T::Name),
            Self::Limit => T::Count,
            Self::Limits => T::Map(&T::Count),
            Self::Money => T::Budget,
            Self::Budgets => T::Map(&T::Ref("ModelBudget")),
            Self::Period => T::Period,
            Self::Time => T::Time,
            Self::Flag => T::Flag,
            Self::Object => T::Object,
            Self::KeyType => T::KeyType,
            Self::Role => T::Role,
            Self::MemberRole => T::MemberRole,
            Self::OrganizationRole => T::OrganizationRole,
        }
        .schema()
    }
}

/// What a field of a request means.
fn about(name: &str) -> &'static str {
    match name {
        "models" => {
            "The models that may be used, wildcards such as `vendor/*` among them; an empty list allows all."
        }
        "rpm_limit" => "Requests per minute. `null`: no limit; `0`: none.",
        "tpm_limit" => "Tokens per minute. `null`: no limit; `0`: none.",
        "max_parallel_requests" => "Requests at the same time. `null`: no limit; `0`: none.",
        "model_rpm_limit" => "Requests per minute of single models.",
        "model_tpm_limit" => "Tokens per minute of single models.",
        "max_budget" => {
            "The most that may be spent in a window, in US dollars. `null`: no limit; `0`: nothing."
        }
        "soft_budget" => "From where on replies carry a warning, in US dollars.",
        "budget_duration" => "How long a window lasts. `null`: there is one, without end.",
        "model_max_budget" => "Budgets of single models.",
        "key_alias" | "team_alias" | "organization_alias" => "A unique name.",
        "key_type" => {
            "What the key is for. Keys for somebody else are `llm_api` unless an admin makes them."
        }
        "user_id" => "The user whose key it is.",
        "team_id" => "The team that the key spends for.",
        "organization_id" => {
            "The organization that it belongs to. A key's is that of its team, if it has a team."
        }
        "tags" => "The tags that its clients may ask for; an empty list allows all.",
        "metadata" => "The operator's notes; replaced as a whole.",
        "blocked" => "Whether it is blocked.",
        "expires" => "From when on the key is not valid any more. Not together with `duration`.",
        "user_alias" => "A name.",
        "user_email" => "A unique address.",
        "user_role" => "What the user may do on the management plane.",
        "role" => "What the member may do in the team.",
        _ => "",
    }
}

/// The fields of a table that bodies are read with; `null` clears each.
fn known(tables: &[&Known]) -> Map<String, Value> {
    let property = |(name, kind): &(&'static str, Kind)| {
        ((*name).to_owned(), described(or_null(kind.schema()), about(name)))
    };
    tables.iter().copied().flatten().map(property).collect()
}

/// A body: the fields that name something, of each group exactly one, and others.
fn body(groups: &[&Table], others: Map<String, Value>) -> Value {
    let mut fields = Map::new();
    let mut required = Vec::new();
    let mut alternatives = Vec::new();
    for group in groups {
        fields.extend(properties(group));
        match group {
            [(name, ..)] => required.push(*name),
            group => {
                let one = |(name, ..): &(&str, T, &str)| json!({"required": [name]});
                alternatives.push(json!({"oneOf": group.iter().map(one).collect::<Vec<_>>()}));
            }
        }
    }
    fields.extend(others);
    let mut schema = json!({"type": "object", "properties": fields, "additionalProperties": false});
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    if !alternatives.is_empty() {
        schema["allOf"] = json!(alternatives);
    }
    schema
}

/// Fields of which at most one may be there.
fn not_both(mut schema: Value, names: &[&str]) -> Value {
    let pairs = names.iter().enumerate().flat_map(|(at, first)| {
        names[at + 1..].iter().map(move |second| json!({"not": {"required": [first, second]}}))
    });
    let mut all = schema["allOf"].as_array().cloned().unwrap_or_default();
    all.extend(pairs);
    schema["allOf"] = all.into();
    schema
}

const A_KEY: &Table = &[
    ("key", T::Name, "The key itself, its hash (`token`) or its `token_id`."),
    ("token", T::Name, "The same as `key`."),
    ("token_id", T::Name, "The same as `key`."),
];
const A_TEAM: &Table = &[("team_id", T::Name, "The team.")];
const A_USER: &Table = &[("user_id", T::Name, "The user.")];
const AN_ORGANIZATION: &Table = &[("organization_id", T::Name, "The organization.")];
const SOME_KEYS: &Table = &[
    ("keys", T::Some(&T::Name), "Keys: themselves, their hashes or ids."),
    ("key", T::Some(&T::Name), "The same as `keys`."),
    ("key_aliases", T::Some(&T::Name), "Keys by their names."),
    ("key_alias", T::Some(&T::Name), "The same as `key_aliases`."),
];
const SOME_TEAMS: &Table = &[
    ("team_ids", T::Some(&T::Name), "Teams."),
    ("team_id", T::Some(&T::Name), "The same as `team_ids`."),
];
const SOME_USERS: &Table = &[
    ("user_ids", T::Some(&T::Name), "Users."),
    ("user_id", T::Some(&T::Name), "The same as `user_ids`."),
];
const SOME_ORGANIZATIONS: &Table = &[
    ("organization_ids", T::Some(&T::Name), "Organizations."),
    ("organization_id", T::Some(&T::Name), "The same as `organization_ids`."),
];
const SOME_MEMBERS: &Table = &[
    ("members", T::Ref("NewTeamMembers"), "The members."),
    ("member", T::Ref("NewTeamMembers"), "The same as `members`."),
];
const SOME_ORGANIZATION_MEMBERS: &Table = &[
    ("members", T::Ref("NewOrganizationMembers"), "The members."),
    ("member", T::Ref("NewOrganizationMembers"), "The same as `members`."),
];
const ITS_ROLE: &Table = &[
    (
        "user_role",
        T::Opt(&T::OrganizationRole),
        "What the member may do in the organization; `internal_user` if nothing is said.",
    ),
    ("role", T::Opt(&T::OrganizationRole), "The same as `user_role`."),
];
const IN_TEAM: &Table = &[(
    "max_budget_in_team",
    T::Opt(&T::Budget),
    "The same as `max_budget`: what the member may spend in the team.",
)];

const PAGING: &Table = &[
    (
        "page",
        T::Between(1, u32::MAX as u64),
        "Which page, from 1 on. `offset`, which counts entries, may stand instead.",
    ),
    (
        "page_size",
        T::Between(1, 1000),
        "Entries of a page; 50 if nothing is said. `size` and `limit` mean the same.",
    ),
];
const DAYS: &Table = &[
    ("start_date", T::Day, "The first day, in UTC; if nothing is said, 29 days before the last."),
    ("end_date", T::Day, "The last day, in UTC; today if nothing is said."),
];
const BY_USER: &Table = &[("user_id", T::Name, "Those of this user.")];
const BY_TEAM: &Table = &[("team_id", T::Name, "Those of this team.")];
const BY_ORGANIZATION: &Table = &[("organization_id", T::Name, "Those of this organization.")];
const BY_TEXT: &Table = &[("search", T::Name, "Those whose id or name has this text.")];

const KEYS: &str = "Keys";
const TEAMS: &str = "Teams";
const USERS: &str = "Users";
const ORGANIZATIONS: &str = "Organizations";
const SPEND: &str = "Spend";

fn read(tag: &'static str, summary: &'static str, answer: &str) -> Op {
    Op::new(tag, summary).ok("What was asked for.", &reference(answer))
}

fn list(tag: &'static str, summary: &'static str, answer: &str) -> Op {
    read(tag, summary, answer).query(PAGING)
}

fn write(tag: &'static str, summary: &'static str, answer: &str, body: &Value) -> Op {
    Op::new(tag, summary).ok("It was done.", &reference(answer)).json(body)
}

/// Deletes; answers with a list of what was.
fn delete(tag: &'static str, summary: &'static str, answer: &'static str, some: &Table) -> Op {
    let schema = json!({
        "type": "object",
        "required": [answer],
        "properties": {answer: {"type": "array", "items": {"type": "string"}}},
    });
    Op::new(tag, summary)
        .ok("The ids of what is gone.", &schema)
        .json(&body(&[some], Map::new()))
        .fails(&[404])
}

fn new_key() -> Value {
    let own: &Table = &[
        (
            "key",
            T::Opt(&T::OwnKey),
            "A key of one's own choice: 32 to 256 visible ASCII characters. Otherwise one is made.",
        ),
        (
            "duration",
            T::Opt(&T::Validity),
            "How long the key is valid, such as `30s`, `24h`, `30d` or `1mo`; `null` or `-1`: for ever.",
        ),
    ];
    let mut fields = known(&[keys::KEY, LIMITS, BUDGET]);
    fields.extend(properties(own));
    not_both(body(&[], fields), &["duration", "expires"])
}

fn key_changes() -> Value {
    let duration: &Table = &[(
        "duration",
        T::Opt(&T::Validity),
        "How long the key is valid from now on; `null` or `-1`: for ever.",
    )];
    let mut fields = known(&[keys::KEY, LIMITS, BUDGET]);
    fields.extend(properties(duration));
    not_both(body(&[A_KEY], fields), &["duration", "expires"])
}

/// A new object: its own id if it is given one, its fields, and those of others that it is made with.
fn new(id: &str, about: &str, tables: &[&Known], others: &Table) -> Value {
    let mut fields = known(tables);
    fields.insert(id.to_owned(), described(T::Opt(&T::Name).schema(), about));
    fields.extend(properties(others));
    body(&[], fields)
}

fn new_team() -> Value {
    let about = "The team's id; one is made if nothing is said.";
    let names = ["members_with_roles", "members", "member"];
    let members: &Table = &[
        (names[0], T::Ref("FirstTeamMembers"), "Its first members."),
        (names[1], T::Ref("FirstTeamMembers"), "The same as `members_with_roles`."),
        (names[2], T::Ref("FirstTeamMembers"), "The same as `members_with_roles`."),
    ];
    not_both(new("team_id", about, &[teams::TEAM, LIMITS, BUDGET], members), &names)
}

fn new_user() -> Value {
    let about = "The user's id; one is made if nothing is said.";
    let places: &Table = &[
        ("teams", T::Ref("TeamIds"), "Teams to join as `user`."),
        ("team_id", T::Ref("TeamIds"), "The same as `teams`."),
        ("organizations", T::Ref("OrganizationIds"), "Organizations to join as `internal_user`."),
        ("organization_id", T::Ref("OrganizationIds"), "The same as `organizations`."),
    ];
    let user = new("user_id", about, &[users::USER, LIMITS, BUDGET], places);
    not_both(not_both(user, &["teams", "team_id"]), &["organizations", "organization_id"])
}

fn new_organization() -> Value {
    let about = "The organization's id; one is made if nothing is said.";
    let tables = &[organizations::ORGANIZATION, LIMITS, BUDGET];
    let members: &Table = &[
        ("members", T::Ref("FirstOrganizationMembers"), "Its first members."),
        ("member", T::Ref("FirstOrganizationMembers"), "The same as `members`."),
    ];
    let new = new("organization_id", about, tables, members);
    not_both(new, &["members", "member"])
}

fn member_changes() -> Value {
    let mut fields = known(&[teams::MEMBER, BUDGET]);
    fields.extend(properties(IN_TEAM));
    not_both(body(&[A_TEAM, A_USER], fields), &["max_budget", "max_budget_in_team"])
}

/// The schemas of what bodies have in them.
pub(crate) fn schemas() -> Map<String, Value> {
    let some = |name: &str, least: u32| {
        let list =
            json!({"type": "array", "items": reference(name), "minItems": least, "maxItems": 1000});
        json!({"anyOf": [reference(name), list]})
    };
    let ids = |id: &str, about: &str| {
        let object = json!({
            "type": "object", "required": [id], "properties": {id: T::Name.schema()},
            "additionalProperties": false,
        });
        let one = json!({"anyOf": [T::Name.schema(), object]});
        let list = json!({"type": "array", "items": one, "maxItems": 1000});
        described(json!({"anyOf": [T::Name.schema(), object, list, {"type": "null"}]}), about)
    };
    let email = || {
        let about = "Must be `null` if it is there: members are named by `user_id`.";
        ("user_email".to_owned(), described(json!({"type": "null"}), about))
    };
    let mut in_team = known(&[teams::MEMBER, BUDGET]);
    in_team.extend(properties(IN_TEAM));
    in_team.extend([email()]);
    let in_team = not_both(body(&[A_USER], in_team), &["max_budget", "max_budget_in_team"]);
    let mut in_organization = properties(ITS_ROLE);
    in_organization.extend([email()]);
    let in_organization = not_both(body(&[A_USER], in_organization), &["user_role", "role"]);
    let named =
        |object: Value, about: &str| described(json!({"anyOf": [T::Name.schema(), object]}), about);
    let schemas = [
        (
            "NewTeamMember",
            named(in_team, "The id of a user, or an object with what the user may do and spend."),
        ),
        ("NewTeamMembers", some("NewTeamMember", 1)),
        ("FirstTeamMembers", or_null(some("NewTeamMember", 0))),
        (
            "NewOrganizationMember",
            named(in_organization, "The id of a user, or an object with the user's role."),
        ),
        ("NewOrganizationMembers", some("NewOrganizationMember", 1)),
        ("FirstOrganizationMembers", or_null(some("NewOrganizationMember", 0))),
        ("TeamIds", ids("team_id", "Teams: ids, or objects that have them.")),
        (
            "OrganizationIds",
            ids("organization_id", "Organizations: ids, or objects that have them."),
        ),
    ];
    schemas.into_iter().map(|(name, schema)| (name.to_owned(), schema)).collect()
}

const NO_USERS_YET: &str = "Members who are no users yet become users of the role `internal_user`.";
const DEAREST: &str = "The dearest first.";

/// Describes what a route does.
pub(crate) fn operation(operation: Operation) -> Op {
    use Operation as O;
    match operation {
        O::KeyGenerate
        | O::KeyUpdate
        | O::KeyDelete
        | O::KeyBlock
        | O::KeyUnblock
        | O::KeyRegenerate
        | O::KeyInfo
        | O::KeyList => of_keys(operation),
        O::TeamNew
        | O::TeamUpdate
        | O::TeamDelete
        | O::TeamBlock
        | O::TeamUnblock
        | O::TeamMemberAdd
        | O::TeamMemberDelete
        | O::TeamMemberUpdate
        | O::TeamInfo
        | O::TeamList => of_teams(operation),
        O::UserNew => write(USERS, "Make a user", "UserWithPlaces", &new_user())
            .about("No key is made.")
            .fails(&[409]),
        O::UserUpdate => {
            let body = body(&[A_USER], known(&[users::USER, LIMITS, BUDGET]));
            write(USERS, "Change a user", "UserWithPlaces", &body).fails(&[404, 409])
        }
        O::UserDelete => delete(USERS, "Delete users", "deleted_users", SOME_USERS)
            .about("With their places in teams and organizations, and their keys."),
        O::UserInfo => read(USERS, "Look at a user", "UserWithPlaces")
            .query(&[(
                "user_id",
                T::Name,
                "The user; if nothing is said, that of the presented key.",
            )])
            .fails(&[404]),
        O::UserList => list(USERS, "List users", "UserList")
            .query(BY_TEAM)
            .query(BY_ORGANIZATION)
            .query(&[("role", T::Role, "Those of this role. `user_role` means the same.")])
            .query(BY_TEXT),
        O::OrganizationNew
        | O::OrganizationUpdate
        | O::OrganizationDelete
        | O::OrganizationMemberAdd
        | O::OrganizationMemberUpdate
        | O::OrganizationMemberDelete
        | O::OrganizationInfo
        | O::OrganizationList
        | O::OrganizationMembers => of_organizations(operation),
        O::SpendLogs
        | O::SpendKeys
        | O::SpendTeams
        | O::SpendUsers
        | O::GlobalActivity
        | O::GlobalModels
        | O::GlobalProviders
        | O::AuditLogs => of_spend(operation),
    }
}

fn of_keys(operation: Operation) -> Op {
    match operation {
        Operation::KeyGenerate => write(KEYS, "Make a key", "KeyWithSecret", &new_key())
            .about("The answer shows the key itself: the only time.")
            .fails(&[404, 409]),
        Operation::KeyUpdate => write(KEYS, "Change a key", "Key", &key_changes())
            .about("What is not named stays; `null` clears; lists and objects are replaced as a whole.")
            .fails(&[404, 409]),
        Operation::KeyDelete => delete(KEYS, "Delete keys", "deleted_keys", SOME_KEYS)
            .about("Answers with the `token_id`s."),
        Operation::KeyBlock => {
            write(KEYS, "Block a key", "Key", &body(&[A_KEY], Map::new())).fails(&[404])
        }
        Operation::KeyUnblock => {
            write(KEYS, "Unblock a key", "Key", &body(&[A_KEY], Map::new())).fails(&[404])
        }
        Operation::KeyRegenerate => {
            let own: &Table = &[(
                "new_key",
                T::Opt(&T::OwnKey),
                "A key of one's own choice: 32 to 256 visible ASCII characters. Otherwise one is made.",
            )];
            write(KEYS, "Give a key another secret", "KeyWithSecret", &body(&[A_KEY], properties(own)))
                .about("`token_id`, settings and spend stay; the old secret ends at once.")
                .fails(&[404, 409])
        }
        Operation::KeyInfo => read(KEYS, "Look at a key", "Key")
            .query(&[("key", T::Name, "The key itself, its hash or its `token_id`; if nothing is said, the presented key.")])
            .fails(&[404]),
        _ => list(KEYS, "List keys", "KeyList")
            .about("Of those that the caller may see, newest first.")
            .query(BY_USER)
            .query(BY_TEAM)
            .query(BY_ORGANIZATION)
            .query(&[("key_alias", T::Name, "The one of this name.")])
            .query(BY_TEXT),
    }
}

fn of_teams(operation: Operation) -> Op {
    let team = "TeamWithMembers";
    match operation {
        Operation::TeamNew => {
            write(TEAMS, "Make a team", team, &new_team()).about(NO_USERS_YET).fails(&[404, 409])
        }
        Operation::TeamUpdate => {
            let body = body(&[A_TEAM], known(&[teams::TEAM, LIMITS, BUDGET]));
            write(TEAMS, "Change a team", team, &body)
                .about("A team that moves into another organization takes its keys along.")
                .fails(&[404, 409])
        }
        Operation::TeamDelete => delete(TEAMS, "Delete teams", "deleted_teams", SOME_TEAMS)
            .about("With their members' places and their keys."),
        Operation::TeamBlock => {
            write(TEAMS, "Block a team", team, &body(&[A_TEAM], Map::new())).fails(&[404])
        }
        Operation::TeamUnblock => {
            write(TEAMS, "Unblock a team", team, &body(&[A_TEAM], Map::new())).fails(&[404])
        }
        Operation::TeamMemberAdd => {
            let common: &Table = &[(
                "max_budget_in_team",
                T::Opt(&T::Budget),
                "What each of these members may spend in the team, unless the member says otherwise.",
            )];
            let body = body(&[A_TEAM, SOME_MEMBERS], properties(common));
            write(TEAMS, "Add members to a team", team, &body)
                .about(NO_USERS_YET)
                .fails(&[404, 409])
        }
        Operation::TeamMemberDelete => {
            let body = body(&[A_TEAM, SOME_USERS], Map::new());
            write(TEAMS, "Remove members from a team", team, &body)
                .about("With the keys that they have in the team.")
                .fails(&[404])
        }
        Operation::TeamMemberUpdate => {
            write(TEAMS, "Change a member of a team", "TeamMember", &member_changes()).fails(&[404])
        }
        Operation::TeamInfo => read(TEAMS, "Look at a team", team)
            .query(&[("team_id", T::Name, "The team.")])
            .needs("team_id")
            .fails(&[404]),
        _ => list(TEAMS, "List teams", "TeamList")
            .about("Of those that the caller may see, newest first, without their members.")
            .query(BY_ORGANIZATION)
            .query(BY_USER)
            .query(&[("team_alias", T::Name, "The one of this name.")])
            .query(BY_TEXT),
    }
}

fn of_organizations(operation: Operation) -> Op {
    let organization = "OrganizationWithMembers";
    let an_organization = &[("organization_id", T::Name, "The organization.")];
    match operation {
        Operation::OrganizationNew => {
            write(ORGANIZATIONS, "Make an organization", organization, &new_organization())
                .about(NO_USERS_YET)
                .fails(&[409])
        }
        Operation::OrganizationUpdate => {
            let fields = known(&[organizations::ORGANIZATION, LIMITS, BUDGET]);
            let body = body(&[AN_ORGANIZATION], fields);
            write(ORGANIZATIONS, "Change an organization", organization, &body).fails(&[404, 409])
        }
        Operation::OrganizationDelete => delete(
            ORGANIZATIONS,
            "Delete organizations",
            "deleted_organizations",
            SOME_ORGANIZATIONS,
        )
        .about("Not while one has teams or keys.")
        .fails(&[409]),
        Operation::OrganizationMemberAdd => {
            let body = body(&[AN_ORGANIZATION, SOME_ORGANIZATION_MEMBERS], Map::new());
            write(ORGANIZATIONS, "Add members to an organization", organization, &body)
                .about(NO_USERS_YET)
                .fails(&[404, 409])
        }
        Operation::OrganizationMemberUpdate => {
            let body = body(&[AN_ORGANIZATION, A_USER], properties(ITS_ROLE));
            let body = not_both(body, &["user_role", "role"]);
            write(ORGANIZATIONS, "Change a member of an organization", "OrganizationMember", &body)
                .fails(&[404])
        }
        Operation::OrganizationMemberDelete => {
            let body = body(&[AN_ORGANIZATION, SOME_USERS], Map::new());
            write(ORGANIZATIONS, "Remove members from an organization", organization, &body)
                .about("Their places in its teams stay.")
                .fails(&[404])
        }
        Operation::OrganizationInfo => read(ORGANIZATIONS, "Look at an organization", organization)
            .query(an_organization)
            .needs("organization_id")
            .fails(&[404]),
        Operation::OrganizationMembers => {
            list(ORGANIZATIONS, "List the members of an organization", "OrganizationMemberList")
                .query(an_organization)
                .needs("organization_id")
                .fails(&[404])
        }
        _ => list(ORGANIZATIONS, "List organizations", "OrganizationList")
            .about("All, or those that the caller is an admin of, newest first.")
            .query(BY_USER)
            .query(&[("organization_alias", T::Name, "The one of this name.")]),
    }
}

fn of_spend(operation: Operation) -> Op {
    match operation {
        Operation::SpendLogs => {
            let answer =
                json!({"anyOf": [reference("UsageRecordList"), reference("DayTotalsList")]});
            Op::new(SPEND, "List usage")
                .about(
                    "Records, newest first: one for each attempt and each answer from the cache.",
                )
                .ok("Records; with `summarize=true` the sums of each day.", &answer)
                .query(PAGING)
                .query(DAYS)
                .query(&[(
                    "api_key",
                    T::Name,
                    "Those of this key: itself, its hash or its `token_id`.",
                )])
                .query(BY_TEAM)
                .query(BY_USER)
                .query(BY_ORGANIZATION)
                .query(&[
                    ("model", T::Name, "Those of this model, by its configured name."),
                    ("request_id", T::Name, "Those of this request. Not with `summarize=true`."),
                    ("summarize", T::Flag, "Whether the sums of each day are wanted instead."),
                ])
                .fails(&[404])
        }
        Operation::SpendKeys => list(SPEND, "What is spent of keys' budgets", "KeySpendList")
            .about(DEAREST)
            .query(BY_USER)
            .query(BY_TEAM)
            .query(BY_ORGANIZATION),
        Operation::SpendTeams => list(SPEND, "What is spent of teams' budgets", "TeamSpendList")
            .about(DEAREST)
            .query(BY_ORGANIZATION),
        Operation::SpendUsers => list(SPEND, "What is spent of users' budgets", "UserSpendList")
            .about(DEAREST)
            .query(BY_TEAM)
            .query(BY_ORGANIZATION),
        Operation::GlobalActivity => {
            read(SPEND, "What was used, day by day", "Activity").query(DAYS)
        }
        Operation::GlobalModels => {
            list(SPEND, "Sums by model", "ModelTotalsList").about(DEAREST).query(DAYS)
        }
        Operation::GlobalProviders => {
            list(SPEND, "Sums by provider", "ProviderTotalsList").about(DEAREST).query(DAYS)
        }
        _ => list("Audit", "List changes", "AuditRecordList")
            .about("Changes made through the management plane, newest first, without secrets.")
            .query(DAYS)
            .query(&[
                ("changed_by", T::Name, "Those of this user. `actor_id` means the same."),
                ("action", T::Name, "Those of this kind, such as `created`."),
                (
                    "table_name",
                    T::Name,
                    "Those of this kind of object, such as `key`. `object_type` means the same.",
                ),
                ("object_id", T::Name, "Those of this object."),
            ]),
    }
}
