//! `batoff purge`: submits, within the quotas, and waits until nothing is served any more.

mod dry_run;
mod input;
mod items;
mod line;
mod progress;
mod split;

use std::time::{Duration, Instant};

use batoff_client::{Client, Error, PurgeRequest, Task};

use self::progress::Progress;
use crate::args::{Format, PurgeArgs};
use crate::exit::Failure;
use crate::settings::Settings;
use crate::{output, status};

/// Times in a row that one request waits for its quota; after that someone else is using it up, and we say so.
const QUOTA_WAITS_MAX: u32 = 20;

/// `batoff purge`
pub async fn run(args: PurgeArgs, settings: &Settings) -> Result<(), Failure> {
    let items = input::collect(&args)?;
    let purge = &items.purge;
    let requests = split::split(purge);
    if purge.max_objects.is_some() && requests.len() > 1 {
        return Err(Failure::Usage(format!(
            "--max-objects is checked a request, and these items make {} of them; purge at most 200 items (60 prefixes \
             and hosts) with it",
            requests.len()
        )));
    }
    let client = settings.client()?;
    let site = settings.site()?;
    if args.dry_run {
        return dry_run::run(&client, site, &requests, settings.format()).await;
    }
    if requests.len() > 1 {
        items.check_hosts(&client, site).await?;
    }
    let progress = Progress::new(requests.len(), purge.items());
    let mut tasks = Vec::with_capacity(requests.len());
    let mut urls_sent = 0;
    // Whoever reads our output may be gone; a purge is not to stop half way because of that.
    let mut unread = Ok(());
    for (number, request) in requests.iter().enumerate() {
        let key = args.idempotency_key.as_deref().map(|key| key_of(key, number, requests.len()));
        match submit(&client, site, request, key.as_deref(), &progress).await {
            Ok(task) => {
                progress.accepted(request.items());
                // Without a wait a script sees each task as soon as it exists, also when a later request fails.
                if args.wait.is_none() && settings.format() == Format::Json && unread.is_ok() {
                    unread = output::json(&task);
                }
                tasks.push(task);
                urls_sent += request.urls.len();
            }
            Err(error) => {
                progress.finish();
                let error = match error {
                    Error::Refused(problem) => Error::Refused(items.placed(problem, urls_sent)),
                    error => error,
                };
                let again = match &args.idempotency_key {
                    Some(_) => Some(
                        "to go on: the same command with the same key; what was accepted is not purged again"
                            .to_owned(),
                    ),
                    None => items.rest_after_urls(urls_sent),
                };
                return Err(stopped(error, &tasks, number, requests.len(), again));
            }
        }
    }
    progress.finish();
    unread?;
    match args.wait {
        Some(limit) => wait(&client, site, tasks, limit, settings.format()).await,
        None if settings.format() == Format::Json => Ok(()),
        None => status::print_tasks(&tasks),
    }
}

/// One key names one request, so a purge that was split has one for each.
fn key_of(key: &str, number: usize, of: usize) -> String {
    if of == 1 { key.to_owned() } else { format!("{key}-{}", number + 1) }
}

async fn submit(
    client: &Client,
    site: &str,
    request: &PurgeRequest,
    key: Option<&str>,
    progress: &Progress,
) -> Result<Task, Error> {
    let mut waits = 0;
    loop {
        // Signed anew after each wait: nothing was accepted, and an old timestamp would be refused.
        let error = match client.send(&client.prepare(site, request, key)?).await {
            Ok(task) => return Ok(task),
            Err(error) => error,
        };
        let Error::RateLimited { retry_after, .. } = &error else { return Err(error) };
        waits += 1;
        if waits > QUOTA_WAITS_MAX {
            return Err(error);
        }
        progress.waiting_for_quota(*retry_after);
        tokio::time::sleep(*retry_after).await;
        progress.sending();
    }
}

fn stopped(error: Error, accepted: &[Task], number: usize, of: usize, again: Option<String>) -> Failure {
    let failure = Failure::from(error);
    if of == 1 {
        return failure;
    }
    name_accepted(accepted);
    if let Some(again) = again {
        output::note(&again);
    }
    let context = format!(
        "request {} of {of} failed, {} accepted, the rest was not sent",
        number + 1,
        if accepted.len() == 1 { "1 was".to_owned() } else { format!("{} were", accepted.len()) }
    );
    failure.about(&context)
}

async fn wait(
    client: &Client,
    site: &str,
    tasks: Vec<Task>,
    limit: Duration,
    format: Format,
) -> Result<(), Failure> {
    let begun = Instant::now();
    let mut seen = Vec::with_capacity(tasks.len());
    let mut unread = Ok(());
    for task in &tasks {
        let left = limit.saturating_sub(begun.elapsed());
        let task = client.wait(site, &task.task_id, left).await.inspect_err(|_| name_accepted(&tasks))?;
        if format == Format::Json && unread.is_ok() {
            unread = output::json(&task);
        }
        seen.push(task);
    }
    unread?;
    if format == Format::Human {
        status::print_tasks(&seen)?;
    }
    status::all_completed(&seen, limit)
}

/// What was accepted is in force or will be, whatever fails afterwards: the user can still ask for it.
fn name_accepted(tasks: &[Task]) {
    for task in tasks {
        output::note(&format!("accepted: {}", task.task_id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_of_a_split_purge_has_its_own_key() {
        assert_eq!(key_of("deploy-7", 0, 1), "deploy-7");
        assert_eq!(key_of("deploy-7", 0, 2), "deploy-7-1");
        assert_eq!(key_of("deploy-7", 1, 2), "deploy-7-2");
    }
}
