use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::system::HOST;
use crate::{
    Customer, Dice, Ledger, Origin, Promise, System, Visitor, eventually, origin, read_log, read_log_in_etcd,
};

/// The site under load: so many directories …
const ROWS: u64 = 12;
/// … of so many pages. Each page carries its column as a tag.
const COLUMNS: u64 = 5;

/// Visitors that read all the time, for each node.
const VISITORS: usize = 2;
/// Their pause between two pages.
const VISITORS_PAUSE: Duration = Duration::from_millis(8);

/// How long a purge may take from its submission to `completed` before the test fails. Programs are dead and frozen
/// meanwhile, on a machine that others use.
const STORY_PATIENCE: Duration = Duration::from_secs(90);

/// How long one of several replicas may take to answer before another is asked; it may be frozen.
const REPLICA_PATIENCE: Duration = Duration::from_millis(1_500);

/// How long it may take until it is written down what became of each task, also of one whose replica was frozen before it
/// could: the others wait for it, one after the other.
const WRITTEN_DOWN_WITHIN: Duration = Duration::from_secs(15);

/// How much more patient a customer becomes with each time that a purge is sent.
const PATIENCE_TIMES_MAX: u64 = 5;

/// How long an answer to a visitor may take: a frozen node answers when it wakes.
const VISIT_PATIENCE: Duration = Duration::from_secs(60);

/// A customer who purges all the time and notes every 202, and visitors who look at once whether it was true.
#[derive(Clone)]
pub struct Recorder {
    customer: Customer,
    /// At each replica.
    customers: Vec<Customer>,
    visitor: Visitor,
    origin: Origin,
    nodes: Vec<(String, String)>,
    ledger: Arc<Mutex<Ledger>>,
    is_strict: bool,
}

impl Recorder {
    /// For this system, whose nodes are strict: then no purge may ever be `partial`.
    pub fn of(system: &System) -> Self {
        Self {
            customer: system.customer.clone(),
            customers: system.customers.clone(),
            visitor: Visitor::default(),
            origin: system.origin.clone(),
            nodes: system.nodes.iter().map(|edge| (edge.pop.clone(), edge.proxy.clone())).collect(),
            ledger: Arc::default(),
            is_strict: true,
        }
    }

    /// The nodes may be available ones: a purge may be `partial`.
    #[must_use]
    pub fn of_available_nodes(mut self) -> Self {
        self.is_strict = false;
        self
    }

    /// What was noted so far.
    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().expect("nobody panicked")
    }

    /// Purges about `rate` times a second for as long as `time`, and follows each purge to its end.
    pub async fn run(&self, rate: u32, time: Duration, dice: &mut Dice) {
        let until = Instant::now() + time;
        self.run_until(rate, move || Instant::now() >= until, dice).await;
    }

    /// The same until something is over.
    pub async fn run_until(
        &self,
        rate: u32,
        is_over: impl Fn() -> bool + Clone + Send + 'static,
        dice: &mut Dice,
    ) {
        let mut everybody = JoinSet::new();
        for node in 0..self.nodes.len() {
            for _ in 0..VISITORS {
                let (recorder, is_over, dice) = (self.clone(), is_over.clone(), dice.fork());
                everybody.spawn(async move { recorder.visit_until(node, is_over, dice).await });
            }
        }
        let mut stories = JoinSet::new();
        let mut tick = tokio::time::interval(Duration::from_secs(1) / rate);
        while !is_over() {
            tick.tick().await;
            let (recorder, choice) = (self.clone(), dice.throw());
            stories.spawn(async move { recorder.purge_one(choice).await });
        }
        while let Some(ended) = stories.join_next().await {
            ended.expect("a purge was followed to its end");
        }
        while let Some(ended) = everybody.join_next().await {
            ended.expect("a visitor");
        }
    }

    /// One purge, from its submission until its pages were asked for on every node after its completion.
    pub async fn purge_one(&self, choice: u64) {
        let since = Instant::now();
        let task = self.submit(choice).await;
        self.follow(&task, since).await;
    }

    /// Submits a purge that `choice` picks, until it is accepted; its task.
    pub async fn submit(&self, choice: u64) -> String {
        let mark = format!("mark:{choice:016x}");
        let (body, pages) = purge(choice, &mark);
        let last_old = self.origin.edit(&pages);
        let task = self.accepted_somewhere(&body, &mark, choice).await;
        self.ledger().accepted(&task, Promise::new(&mark, pages, last_old));
        task
    }

    /// Sends a purge to one replica after the other, with one key, until it is accepted.
    async fn accepted_somewhere(&self, body: &Value, key: &str, choice: u64) -> String {
        let patience = if self.customers.len() == 1 { STORY_PATIENCE } else { REPLICA_PATIENCE };
        let mut sent = 0_u64;
        let (path, body) = (format!("/v1/sites/{}/purge", self.customer.site), body.to_string());
        let mut turn = choice as usize % self.customers.len();
        let task = eventually("the purge is accepted by some replica", || {
            sent += 1;
            let customer = &self.customers[turn];
            turn = (turn + 1) % self.customers.len();
            let request = customer.keyed_request("POST", &path, Some(body.as_bytes()), Some(key));
            // Longer each time: on a busy machine an answer that nobody waits for any more costs as much as one that is heard.
            let patience = patience * u32::try_from(sent.min(PATIENCE_TIMES_MAX)).unwrap_or(1);
            async move {
                match timeout(patience, customer.send(request)).await {
                    Ok(Ok(reply)) if reply.status == 202 => Some(reply.task()),
                    Ok(Ok(reply)) if reply.status == 503 => None,
                    Ok(Ok(reply)) => panic!("refused: {}", reply.text),
                    Ok(Err(_)) | Err(_) => None,
                }
            }
        })
        .await;
        self.ledger().sent(sent);
        task
    }

    /// The same, sent once, with so many further URLs of a thousand bytes; what was refused or not answered is not
    /// noted. The HTTP status (0 without an answer), and the task or the problem's code.
    pub async fn try_submit(&self, choice: u64, ballast: usize) -> (u16, String) {
        let mark = format!("mark:{choice:016x}");
        let (mut body, pages) = purge(choice, &mark);
        if ballast > 0 {
            let long = |number: usize| System::url(&format!("/{choice:x}/{number}/{}", "x".repeat(1_000)));
            let own = body["urls"].as_array().cloned().unwrap_or_default();
            body["urls"] = (0..ballast).map(|number| Value::from(long(number))).chain(own).collect();
        }
        let last_old = self.origin.edit(&pages);
        let path = format!("/v1/sites/{}/purge", self.customer.site);
        let body = body.to_string();
        let request = self.customer.keyed_request("POST", &path, Some(body.as_bytes()), Some(&mark));
        match self.customer.send(request).await {
            Ok(reply) if reply.status == 202 => {
                self.ledger().accepted(&reply.task(), Promise::new(&mark, pages, last_old));
                (202, reply.task())
            }
            Ok(reply) => (reply.status, reply.code().to_owned()),
            Err(_) => (0, String::new()),
        }
    }

    /// Follows a task, submitted after `since`, until it is completed, and asks every node for its pages at that moment.
    pub async fn follow(&self, task: &str, since: Instant) -> Value {
        let (began, path) = (Instant::now(), format!("/v1/sites/{}/purge/{task}?wait=5", self.customer.site));
        let is_alone = self.customers.len() == 1;
        let patience = if is_alone { STORY_PATIENCE } else { Duration::from_secs(5) + REPLICA_PATIENCE };
        let mut replicas =
            self.customers.iter().cycle().skip(task.len() + usize::from(task.as_bytes()[task.len() - 1]));
        let shown = loop {
            let customer = replicas.next().unwrap_or(&self.customer);
            let reply = timeout(patience, customer.send(customer.request("GET", &path, None))).await;
            let Ok(reply) = reply else { continue };
            match reply {
                Ok(reply) if reply.status == 200 && reply.json["state"] == "completed" => break reply.json,
                Ok(reply) if reply.status == 200 && self.is_strict => {
                    self.ledger().on_its_way(task, &reply.json);
                }
                Ok(reply) if !matches!(reply.status, 200 | 503) => panic!("task {task}: {}", reply.text),
                _ => tokio::time::sleep(Duration::from_millis(30)).await,
            }
            assert!(
                began.elapsed() < STORY_PATIENCE,
                "task {task} is not completed after {STORY_PATIENCE:?}"
            );
        };
        self.every_replica_says(task, &shown).await;
        let pages = self.ledger().completed(task, &shown, since.elapsed());
        let visits = pages.iter().flat_map(|page| (0..self.nodes.len()).map(move |node| (node, page)));
        let mut looks = JoinSet::new();
        for (node, page) in visits {
            let (recorder, page) = (self.clone(), page.clone());
            looks.spawn(async move { recorder.visit(node, &page).await });
        }
        while let Some(looked) = looks.join_next().await {
            looked.expect("a visitor");
        }
        shown
    }

    /// What one replica calls completed no other may call anything else from then on; of one that is dead, or frozen, nothing
    /// is heard.
    async fn every_replica_says(&self, task: &str, shown: &Value) {
        if self.customers.len() == 1 {
            return;
        }
        let path = format!("/v1/sites/{}/purge/{task}", self.customer.site);
        let asked = self.customers.iter().map(async |customer| {
            let reply = timeout(REPLICA_PATIENCE, customer.send(customer.request("GET", &path, None))).await;
            reply.ok()?.ok().filter(|reply| reply.status != 503)
        });
        for reply in futures_util::future::join_all(asked).await.into_iter().flatten() {
            // The figures may still be each replica's own.
            let same = |member| reply.json[member] == shown[member];
            if reply.status != 200 || !["state", "started_at"].into_iter().all(same) {
                self.ledger().differs(task, shown, &reply.text);
            }
        }
    }

    /// Follows every task that is not yet known to be completed; all were submitted before `since`.
    pub async fn follow_all(&self, since: Instant) {
        let open = self.ledger().open();
        for task in open {
            self.follow(&task, since).await;
        }
    }

    /// Asks each node for each page.
    pub async fn visit_all(&self) {
        for row in 0..ROWS {
            for column in 0..COLUMNS {
                for node in 0..self.nodes.len() {
                    self.visit(node, &page(row, column)).await;
                }
            }
        }
    }

    /// Asks one node for one page, and notes what it gives.
    pub async fn visit(&self, node: usize, page: &str) {
        let gone = self.ledger().asks(page);
        let (name, proxy) = &self.nodes[node];
        let asked = self.visitor.try_read(proxy, HOST, page, &[]);
        let answer = timeout(VISIT_PATIENCE, asked).await;
        match answer {
            Ok(Ok(answer)) if answer.status == 200 => {
                let number = origin::number(&answer.body);
                let number = number.unwrap_or_else(|| panic!("{name}{page}: {:?}", answer.body));
                self.ledger().answered(name, page, gone, number, &answer.x_cache);
            }
            _ => self.ledger().unanswered(),
        }
    }

    async fn visit_until(&self, node: usize, is_over: impl Fn() -> bool, mut dice: Dice) {
        while !is_over() {
            self.visit(node, &any_page(&mut dice)).await;
            tokio::time::sleep(VISITORS_PAUSE).await;
        }
    }

    /// What each replica lists, once all list the same, or after as long as it may take another one to write down what became
    /// of tasks in the place of a replica that does not.
    async fn lists(&self) -> Vec<Vec<Value>> {
        let since = Instant::now();
        loop {
            let mut lists = Vec::new();
            for customer in &self.customers {
                lists.push(customer.tasks().await);
            }
            if since.elapsed() > WRITTEN_DOWN_WITHIN || lists.iter().all(|listed| *listed == lists[0]) {
                return lists;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// When everything runs again: looks at every page, at the list of tasks of each replica, and at the
    /// log itself.
    ///
    /// # Panics
    /// When anything disagrees with what was noted.
    pub async fn settle(&self, mut system: System) {
        system.settled().await;
        self.visit_all().await;
        let lists = self.lists().await;
        for listed in &lists {
            self.ledger().compare_tasks(listed);
            self.ledger().compare_lists(&lists[0], listed);
        }
        assert_eq!(system.control.stop().await, 0, "the control plane ends well");
        for other in &mut system.others {
            assert_eq!(other.stop().await, 0, "each replica ends well");
        }
        let records = match system.member_clients.as_slice() {
            [] => read_log(&system.data_dir).await,
            members => read_log_in_etcd(members).await,
        };
        self.ledger().compare_log(&records);
        self.ledger().must_agree();
    }
}

fn page(row: u64, column: u64) -> String {
    format!("/run/{row}/{column}")
}

fn any_page(dice: &mut Dice) -> String {
    page(dice.between(0, ROWS), dice.between(0, COLUMNS))
}

/// A purge by URL, by prefix or by tag, and the pages that it hits.
fn purge(choice: u64, mark: &str) -> (Value, Vec<String>) {
    let mut dice = Dice::new(choice);
    let (row, column) = (dice.between(0, ROWS), dice.between(0, COLUMNS));
    match dice.between(0, 10) {
        0 => {
            let pages = (0..COLUMNS).map(|column| page(row, column)).collect();
            (json!({"prefixes": [System::url(&format!("/run/{row}/"))], "tags": [mark]}), pages)
        }
        1 => {
            let pages = (0..ROWS).map(|row| page(row, column)).collect();
            (json!({"tags": [format!("column:{column}"), mark]}), pages)
        }
        _ => {
            let page = page(row, column);
            (json!({"urls": [System::url(&page)], "tags": [mark]}), vec![page])
        }
    }
}
