//! `batoff status`: how far purges are.

use std::time::Duration;

use batoff_client::{Counts, Include, Task};

use crate::args::{Format, StatusArgs};
use crate::exit::Failure;
use crate::output::{self, Narrow};
use crate::propagation;
use crate::settings::Settings;

/// `batoff status`
pub async fn run(args: StatusArgs, settings: &Settings) -> Result<(), Failure> {
    let client = settings.client()?;
    let site = settings.site()?;
    let include = Include { pops: args.pops, items: args.items, propagation: args.propagation };
    let task = match args.wait {
        Some(limit) => client.wait_for(site, &args.task, limit, include).await?,
        None => client.status(site, &args.task, include).await?,
    };
    match settings.format() {
        Format::Json => output::json(&task)?,
        Format::Human => print_task(&task)?,
    }
    match args.wait {
        Some(limit) => all_completed(std::slice::from_ref(&task), limit),
        None => Ok(()),
    }
}

/// A failure if any of the tasks, which were waited for, is not completed.
pub fn all_completed(tasks: &[Task], limit: Duration) -> Result<(), Failure> {
    let open: Vec<_> = tasks.iter().filter(|task| !task.is_completed()).collect();
    let Some(first) = open.first() else { return Ok(()) };
    let limit = limit.as_secs_f64();
    let nodes = first.nodes.map(|nodes| format!("; {}", waiting_for(&nodes))).unwrap_or_default();
    Err(Failure::Failed(format!(
        "not completed after {limit} s: {} of {}, first {} ({}{nodes})",
        open.len(),
        output::counted(tasks.len() as u64, "purge"),
        first.task_id,
        first.state,
    )))
}

fn waiting_for(nodes: &Counts) -> String {
    let open = nodes.total.saturating_sub(nodes.confirmed + nodes.fenced);
    if open == 0 {
        return "all nodes have confirmed, and that is being made durable".to_owned();
    }
    format!("{open} of {} have not confirmed", output::counted(nodes.total, "node"))
}

/// One task in full, several as a table.
pub fn print_tasks(tasks: &[Task]) -> Result<(), Failure> {
    if let [task] = tasks {
        return print_task(task);
    }
    print_table(tasks)
}

/// A line for each.
pub fn print_table(tasks: &[Task]) -> Result<(), Failure> {
    let mut table = output::table([
        ("TASK", Narrow::Stay),
        ("STATE", Narrow::Stay),
        ("ITEMS", Narrow::Go(2)),
        ("STARTED", Narrow::Go(1)),
        ("PROPAGATION", Narrow::Go(3)),
        ("EVICTED", Narrow::Go(5)),
        ("NODES CONFIRMED", Narrow::Go(4)),
    ]);
    for task in tasks {
        table.add_row([
            task.task_id.clone(),
            task.state.to_string(),
            task.items_total.to_string(),
            task.started_at.clone(),
            output::or_dash(task.propagation_ms.map(|ms| format!("{ms} ms"))),
            output::or_dash(task.objects_evicted),
            output::or_dash(task.nodes.map(|nodes| format!("{}/{}", nodes.confirmed, nodes.total))),
        ]);
    }
    table.print("no purges")
}

fn print_task(task: &Task) -> Result<(), Failure> {
    let mut lines = vec![
        format!("task         {}", task.task_id),
        format!("state        {}", task.state),
        format!("items        {} of {} done", task.items_done, task.items_total),
        format!("started      {}", task.started_at),
    ];
    if let Some(at) = &task.completed_at {
        lines.push(format!("completed    {at}"));
    }
    if let Some(ms) = task.propagation_ms {
        lines.push(format!("propagation  {ms} ms"));
    }
    if let Some(objects) = task.objects_evicted {
        let so_far = if task.objects_final == Some(false) { " so far" } else { "" };
        lines.push(format!("evicted      {}{so_far}", output::counted(objects, "object")));
    }
    if let Some(nodes) = task.nodes {
        let Counts { total, confirmed, fenced, unreachable } = nodes;
        lines.push(format!(
            "nodes        {total}: {confirmed} confirmed, {fenced} fenced, {unreachable} unreachable"
        ));
    }
    output::say(&lines.join("\n"))?;
    if let Some(pops) = &task.pops {
        let mut table = output::table([
            ("POP", Narrow::Stay),
            ("NODES", Narrow::Go(1)),
            ("CONFIRMED", Narrow::Go(2)),
            ("FENCED", Narrow::Go(4)),
            ("UNREACHABLE", Narrow::Go(3)),
            ("SLOWEST", Narrow::Go(5)),
            ("EVICTED", Narrow::Go(6)),
        ]);
        for pop in pops {
            table.add_row([
                pop.pop.clone(),
                pop.nodes.total.to_string(),
                pop.nodes.confirmed.to_string(),
                pop.nodes.fenced.to_string(),
                pop.nodes.unreachable.to_string(),
                output::or_dash(pop.slowest_ms.map(|ms| format!("{ms} ms"))),
                pop.objects_evicted.to_string(),
            ]);
        }
        table.print("no PoPs")?;
    }
    if let Some(spread) = &task.propagation {
        propagation::print(spread)?;
    }
    if let Some(items) = &task.items {
        let mut table = output::table([("KIND", Narrow::Stay), ("VALUE", Narrow::Stay)]);
        for item in items {
            table.add_row([&item.kind, &item.value]);
        }
        table.print("no items")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use batoff_client::State;

    use super::*;

    fn task(state: &str) -> Task {
        serde_json::from_value(serde_json::json!({
            "task_id": "01JF7M2KZ7YH9Q4K0P2BDH9W3Y", "state": state,
            "nodes": { "total": 3, "confirmed": 1, "fenced": 1, "unreachable": 1 }
        }))
        .unwrap()
    }

    #[test]
    fn one_open_purge_fails_the_wait_and_is_named() {
        let limit = Duration::from_secs(2);
        assert!(all_completed(&[task("completed")], limit).is_ok());
        let error = all_completed(&[task("completed"), task("partial")], limit).unwrap_err();
        assert!(matches!(error, Failure::Failed(_)));
        let text = error.to_string();
        assert!(text.contains("1 of 2 purges") && text.contains("1 of 3 nodes"), "{text}");
        assert_eq!(task("partial").state, State::Partial);
    }
}
