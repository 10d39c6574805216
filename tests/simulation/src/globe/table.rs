use super::{Millis, Propagation};

impl Propagation {
    /// The figures as Markdown tables, in milliseconds.
    pub fn to_markdown(&self) -> String {
        let mut text = format!(
            "{} PoPs, control plane in {}, {} purges, {} % of messages lost and retransmitted. Milliseconds.\n\n\
             | from acceptance until | p50 | p90 | p99 | max | light in glass |\n| --- | --: | --: | --: | --: | --: |\n",
            self.nodes,
            self.control,
            self.completed.0.len(),
            self.loss * 100.0
        );
        let each = self.in_force_by_light;
        text += &row("in force at a node", &self.at_each, &format!("up to {each:.0}"));
        text += &row("in force at the last node", &self.in_force, &format!("{each:.0}"));
        text += &row("completed", &self.completed, &format!("{:.0}", self.completed_by_light));
        text += "\n| client in | purges | in force everywhere p50 | p99 | completed p50 | p90 | p99 | max | \
                 submitted to completed p50 | p99 | light in glass |\n\
                 | --- | --: | --: | --: | --: | --: | --: | --: | --: | --: | --: |\n";
        for from in &self.regions {
            let q = |millis: &Millis, shares: &[f64]| {
                shares.iter().map(|share| format!(" {:.0} |", millis.quantile(*share))).collect::<String>()
            };
            text += &format!(
                "| {} | {} |{}{}{} {:.0} |\n",
                from.region,
                from.purges,
                q(&from.in_force, &[0.5, 0.99]),
                q(&from.completed, &[0.5, 0.9, 0.99, 1.0]),
                q(&from.submitted, &[0.5, 0.99]),
                from.submitted_by_light
            );
        }
        text
    }
}

fn row(what: &str, millis: &Millis, by_light: &str) -> String {
    let figures = [0.5, 0.9, 0.99, 1.0].map(|share| format!("{:.0}", millis.quantile(share)));
    format!("| {what} | {} | {by_light} |\n", figures.join(" | "))
}
