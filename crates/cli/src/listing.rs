use std::time::SystemTime;

use batoff_client::{ListQuery, State};

use crate::args::{Format, ListArgs};
use crate::exit::Failure;
use crate::settings::Settings;
use crate::{output, status, when};

/// Tasks that the API gives at once.
const PAGE_TASKS_MAX: u32 = 200;

/// `batoff list`
pub async fn run(args: ListArgs, settings: &Settings) -> Result<(), Failure> {
    let query = ListQuery {
        state: args.state.as_deref().and_then(state),
        kind: args.kind,
        since: args.since.as_deref().map(|since| when::past(since, SystemTime::now())).transpose()?,
        limit: Some(args.limit.min(PAGE_TASKS_MAX)),
        cursor: None,
    };
    let tasks = settings.client()?.list_all(settings.site()?, &query, args.limit as usize).await?;
    match settings.format() {
        Format::Json => tasks.iter().try_for_each(output::json),
        Format::Human => status::print_tasks(&tasks),
    }
}

fn state(name: &str) -> Option<State> {
    [State::Pending, State::InProgress, State::Completed, State::Partial]
        .into_iter()
        .find(|s| s.as_str() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_have_the_names_of_the_api() {
        assert_eq!(state("in_progress"), Some(State::InProgress));
        assert_eq!(state("done"), None);
    }
}
