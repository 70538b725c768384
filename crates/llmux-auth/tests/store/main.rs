//! One suite of behaviour, run against each database.
#![expect(clippy::disallowed_methods, reason = "the tests find their server in the environment")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "in tests both are failures")]

mod any;
mod lists;
mod postgres;
mod samples;
mod sqlite;
mod suite;
mod usage;

/// Runs a test in a runtime of its own.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

/// A test for each function, with a store that `open` makes for it alone.
macro_rules! each {
    ($open:path; $($module:ident::$name:ident)*) => {$(
        #[test]
        fn $name() {
            crate::block_on(async {
                let opened = $open().await;
                crate::$module::$name(&*opened.store).await;
            });
        }
    )*};
}

macro_rules! all {
    ($open:path) => {
        crate::each! { $open;
            suite::every_field_of_every_record_comes_back
            suite::a_key_is_found_by_its_hash_id_and_alias
            suite::a_taken_alias_hash_or_id_is_a_conflict_that_names_the_field
            suite::references_to_nothing_are_refused_and_name_the_field
            suite::an_update_changes_what_it_names_and_keeps_the_rest
            suite::a_regenerated_key_keeps_its_id_and_spend_and_loses_its_old_secret
            suite::deleting_keys_is_all_or_nothing
            suite::unknown_ids_are_not_found
            suite::a_deleted_team_takes_its_members_and_keys_along
            suite::a_deleted_user_takes_places_and_keys_along
            suite::an_organization_with_teams_or_keys_cannot_be_deleted
            suite::members_are_added_changed_listed_and_removed
            suite::a_failed_addition_of_members_adds_none
            suite::a_snapshot_holds_all_that_a_key_hangs_on
            suite::lists_page_through_everything_once_newest_first
            suite::lists_filter_by_each_condition
            lists::lists_show_what_is_within_reach
            lists::pages_far_into_a_list_are_those_that_belong_there
            suite::last_use_moves_forward_only
            suite::the_audit_log_is_listed_and_expires
            suite::texts_that_cannot_be_stored_are_refused
            suite::nothing_is_found_by_texts_that_cannot_be_stored
            suite::the_store_answers_a_ping
            usage::a_record_counts_once_however_often_it_is_handed_in
            usage::a_failed_batch_changes_nothing
            usage::texts_of_clients_are_cut_to_what_can_be_found
            usage::spend_is_added_to_every_scope
            usage::budgets_roll_to_their_next_window
            usage::models_with_budgets_are_counted_apart
            usage::a_budget_whose_window_was_taken_away_starts_with_what_is_spent_now
            usage::the_dearest_are_those_that_spent_most_in_their_present_window
            usage::sums_agree_with_the_records
            usage::sums_are_made_by_each_dimension
            usage::records_are_filtered_and_paged
            usage::expired_records_leave_their_sums_behind
            usage::writers_at_the_same_time_lose_nothing
            usage::spend_and_updates_at_the_same_time_lose_nothing
        }
    };
}

use {all, each};
