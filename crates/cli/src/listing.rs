use std::time::{Duration, SystemTime};

use batoff_client::{Client, Error, ListQuery, State, Task};

use crate::args::{Format, ListArgs};
use crate::exit::Failure;
use crate::settings::Settings;
use crate::{output, status, when};

/// Tasks that the API gives at once.
const PAGE_TASKS_MAX: u32 = 200;

/// `batoff list`
pub async fn run(args: ListArgs, settings: &Settings) -> Result<(), Failure> {
    if args.follow {
        return follow(&settings.client()?, settings.site()?, settings.format()).await;
    }
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
        Format::Human => status::print_table(&tasks),
    }
}

/// The purges as they happen. A stream that ends (the control plane restarts) goes on where it ended.
async fn follow(client: &Client, site: &str, format: Format) -> Result<(), Failure> {
    /// Between two streams; the client itself has tried harder before it gives up.
    const PAUSE: Duration = Duration::from_millis(500);
    let mut last_id: Option<String> = None;
    loop {
        let mut events = client.events(site, last_id.as_deref()).await?;
        loop {
            match events.next().await {
                Ok(Some(task)) if format == Format::Json => output::json(&task)?,
                Ok(Some(task)) => output::text(&line(&task))?,
                Ok(None) | Err(Error::Unavailable { .. }) => break,
                Err(error) => return Err(error.into()),
            }
            last_id = events.last_id().map(str::to_owned).or(last_id);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn line(task: &Task) -> String {
    let propagation = task.propagation_ms.map(|ms| format!(" after {ms} ms")).unwrap_or_default();
    let items = output::counted(task.items_total, "item");
    format!("{}  {:<11}  {items}{propagation}", task.task_id, task.state)
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
