use std::time::Duration;

use batoff_delivery::PURGE_TARGET;
use batoff_log::{LIST_TASKS_MAX, StoreError, TaskRow};
use batoff_types::{SiteId, UnixMillis};

use super::live::millis;
use super::query::progress_of;
use super::view::{Breach, SlaView};
use super::{SLA_BREACHES_MAX, Tracker};

/// Tasks that one SLA answer looks at, the newest of the window. `purges` says how many it were.
pub const SLA_ROWS_MAX: usize = 100_000;

impl Tracker {
    /// Propagation of the site's purges (of all sites' for `None`) accepted within the last `window`.
    pub async fn sla(&self, site: Option<&SiteId>, window: Duration) -> Result<SlaView, StoreError> {
        let mut sum = Sum::default();
        match site {
            Some(site) => self.add_site(site, window, &mut sum).await?,
            None => {
                for (site, _) in self.catalog.table().iter() {
                    self.add_site(site, window, &mut sum).await?;
                }
            }
        }
        Ok(sum.view())
    }

    async fn add_site(&self, site: &SiteId, window: Duration, sum: &mut Sum) -> Result<(), StoreError> {
        let now = self.clock.wall();
        let since = UnixMillis(now.0.saturating_sub(millis(window)));
        let mut before = None;
        loop {
            let rows = self.store.log().list_tasks(site, before, LIST_TASKS_MAX).await?;
            let Some(last) = rows.last() else { return Ok(()) };
            before = Some(last.task);
            for row in &rows {
                if row.accepted_at < since || sum.purges as usize == SLA_ROWS_MAX {
                    return Ok(());
                }
                sum.add(row, now);
            }
        }
    }
}

#[derive(Default)]
struct Sum {
    purges: u64,
    /// Of completed tasks, in milliseconds.
    took: Vec<u64>,
    within: u64,
    breached: u64,
    breaches: Vec<Breach>,
}

impl Sum {
    fn add(&mut self, row: &TaskRow, now: UnixMillis) {
        self.purges += 1;
        let target = millis(PURGE_TARGET);
        let progress = progress_of(row).unwrap_or_default();
        let took = progress.completed.map(|(_, took)| took);
        self.took.extend(took);
        match took {
            Some(took) if took <= target => self.within += 1,
            // Still on its way, and in time so far.
            None if row.accepted_at.0 + target > now.0 => {}
            _ => {
                self.breached += 1;
                self.breaches.push(Breach {
                    site: row.site.clone(),
                    task: row.task,
                    propagation_ms: took,
                    late: progress.late,
                });
                // Of several sites the newest count; a little more is kept than is shown.
                if self.breaches.len() > 4 * SLA_BREACHES_MAX {
                    self.keep_newest();
                }
            }
        }
    }

    fn keep_newest(&mut self) {
        self.breaches.sort_unstable_by_key(|breach| std::cmp::Reverse(breach.task));
        self.breaches.truncate(SLA_BREACHES_MAX);
    }

    fn view(mut self) -> SlaView {
        self.keep_newest();
        self.took.sort_unstable();
        let judged = self.within + self.breached;
        SlaView {
            purges: self.purges,
            within_target: if judged == 0 { 1.0 } else { self.within as f64 / judged as f64 },
            p50: quantile(&self.took, 500),
            p95: quantile(&self.took, 950),
            p99: quantile(&self.took, 990),
            p999: quantile(&self.took, 999),
            max: self.took.last().copied().unwrap_or_default(),
            breaches: self.breaches,
        }
    }
}

/// The smallest value that at least so many of a thousand do not exceed; 0 of none.
fn quantile(sorted: &[u64], per_mille: usize) -> u64 {
    let rank = (sorted.len() * per_mille).div_ceil(1_000);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_occurred() {
        let all: Vec<u64> = (1..=1_000).collect();
        let of = |per_mille| quantile(&all, per_mille);
        assert_eq!([of(500), of(950), of(990), of(999)], [500, 950, 990, 999]);
        assert_eq!(quantile(&[7], 500), 7);
        assert_eq!(quantile(&[], 999), 0);
    }
}
