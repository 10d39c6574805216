//! `/nodes`: where are the nodes, how are they, and what keeps those that are not well? Taking one out for good is here, too.

use std::collections::BTreeMap;
use std::sync::Arc;

use askama::Template;
use axum::Form;
use axum::extract::rejection::{FormRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::Response;
use batoff_delivery::NodeState;
use batoff_types::NodeName;
use batoff_types::message::LeasePolicy;
use serde::Deserialize;

use super::map::{MapPop, PopMap};
use super::purge::cause_words;
use super::purge_row::took;
use super::tokens::asker;
use crate::admin::nodes::{admit_audited, remove_audited};
use crate::api::problem::{Code, ItemError, Problem};
use crate::clock::{millis, rfc3339};
use crate::console::flash::Flash;
use crate::console::frame::PageFrame;
use crate::console::state::Console;
use crate::console::words::{Text, Words, counted, grouped, memory, words};
use crate::language::Language;
use crate::tracker::NodeStatus;

/// Width of the bar that stands for a whole lease.
const BAR_WIDTH: u64 = 40;

/// Stands where a node has not said a figure.
const NOT_SAID: &str = "–";

/// The value of the state filter for nodes that something is the matter with.
const ATTENTION: &str = "attention";

words! {
    /// What the pages say.
    pub enum NodesText {
        Filter: "Filter", "Фильтр";
        Pop: "PoP", "PoP";
        AllPops: "All PoPs", "Все PoP";
        State: "State", "Состояние";
        AnyState: "Any state", "Любое";
        Attention: "Needs attention", "Требует внимания";
        Show: "Show", "Показать";
        Reset: "Reset", "Сбросить";
        Map: "Where the PoPs are, each with the sign of its worst node", "Где находятся PoP; знак — по худшему узлу";
        NotOnMap: "Not on the map", "Нет на карте";
        Node: "Node", "Узел";
        Lag: "Lag", "Отставание";
        Lease: "Lease left", "Остаток аренды";
        Caches: "Caches", "Кеши";
        Version: "Version", "Версия";
        Index: "Index", "Индекс";
        Objects: "Objects in the index", "Объектов в индексе";
        Memory: "Memory of the index", "Память индекса";
        Parents: "Fetches through", "Получает через";
        Leased: "Leased", "С арендой";
        Joining: "Joining", "Входит";
        Away: "Away", "Без аренды";
        Unknown: "Unknown", "Неизвестно";
        Since: "since", "с";
        NoLag: "none", "нет";
        Ok: "reachable", "доступен";
        Stuck: "waits behind it: record", "за ним ждёт запись";
        Direct: "origins", "серверы сайтов";
        WithLease: "leased", "с арендой";
        None: "No such node.", "Таких узлов нет.";
        NoneYet: "No node is registered yet. One registers itself when its daemon connects.", "Пока не зарегистрирован ни один узел. Узел регистрируется сам, когда подключается его программа.";
        Removed: "Decommissioned, their names are blocked", "Выведенные, их имена заблокированы";
        Admit: "Admit again", "Допустить снова";
        AdmitAbout: "The name may connect and be registered again. If the machine still runs the old daemon, it joins at once.", "Узел с этим именем сможет подключиться и зарегистрироваться. Если на машине работает старая программа, он войдёт сразу.";
        AdmitConfirm: "It is meant to serve again", "Он снова должен отдавать";
        Connection: "Connection", "Соединение";
        Connected: "connected", "есть";
        NotConnected: "not connected", "нет";
        Heard: "Heard of", "Последний сигнал";
        Cursor: "Acknowledged through record", "Подтверждено до записи";
        OnLost: "Without a lease it", "Без аренды";
        Serves: "goes on serving", "продолжает отдавать";
        Revalidates: "revalidates with the origin", "обновляет у сервера сайта";
        Certificate: "Certificate ends", "Сертификат истекает";
        Refusal: "Last heartbeat refused", "Последний сигнал отклонён";
        ParentsThrough: "Nothing above it serves what was purged through record", "Выше не отдаётся очищенное до записи";
        ParentsUnknown: "Not known how far those are", "Неизвестно, где они";
        Decommission: "Decommission", "Вывести узел";
        About: "Purges wait for it no longer once its lease has certainly run out, and its name is blocked until it is admitted again. Stop its daemon first.", "Очистки перестанут ждать его, как только его аренда точно закончится, а имя будет заблокировано, пока его не допустят снова. Сначала остановите его программу.";
        TypeName: "To confirm, type", "Для подтверждения введите";
        Force: "Even if it may go on serving what was purged", "Даже если он может отдавать очищенное";
        Do: "Decommission it now", "Вывести сейчас";
    }
}

/// The filter, as the page's URL has it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NodesQuery {
    pop: String,
    state: String,
}

/// What is typed to decommission a node.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecommissionForm {
    confirm: String,
    #[serde(default)]
    force: String,
}

/// What is ticked to let a node in again.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdmitForm {
    #[serde(default)]
    confirm: String,
}

#[derive(Template)]
#[template(path = "console/nodes.html")]
struct NodesPage<'a> {
    frame: &'a PageFrame,
    query: &'a NodesQuery,
    /// All there are, whatever the filter says.
    names: Vec<String>,
    map: Option<PopMap>,
    pops: Vec<PopGroup>,
    removed: Vec<String>,
    states: Vec<(&'static str, NodesText, bool)>,
}

/// The nodes of a PoP that the filter lets through.
struct PopGroup {
    name: String,
    leased: String,
    rows: Vec<FleetRow>,
}

#[derive(Template)]
#[template(path = "console/node.html")]
struct NodePage<'a> {
    frame: &'a PageFrame,
    row: &'a FleetRow,
    status: &'a NodeStatus,
}

/// What is shown of a node.
struct FleetRow {
    name: NodeName,
    state: NodesText,
    /// The class of its badge, which is the name of its sign, too.
    sign: &'static str,
    cause: Option<&'static str>,
    detail: String,
    since: Option<String>,
    lag: Option<String>,
    /// How much of a lease is left: the bar's length, and in words.
    lease: Option<(u64, String)>,
    caches: Vec<CacheRow>,
    version: String,
    /// Objects in its index, and the memory that it takes.
    index: Option<(String, String)>,
    parents: Vec<String>,
}

/// A cache, and what is the matter with it.
struct CacheRow {
    name: String,
    trouble: Option<TroubleRow>,
}

struct TroubleRow {
    message: String,
    since: String,
    stuck: Option<u64>,
}

/// `GET /nodes`
pub async fn list(
    State(console): State<Arc<Console>>,
    frame: PageFrame,
    query: Result<Query<NodesQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(query) =
        query.map_err(|rejected| Problem::detailed(Code::InvalidRequest, rejected.body_text()))?;
    let choices = states(&query.state);
    if !query.state.is_empty() && !choices.iter().any(|(.., is_chosen)| *is_chosen) {
        let error = ItemError::parameter("state", "is not among the choices of the filter");
        return Err(Problem::of_item(Code::InvalidRequest, error.with_value(&query.state)));
    }
    let (removed, nodes): (Vec<_>, Vec<_>) =
        console.services.tracker.nodes().into_iter().partition(|node| node.removed);
    let lease_ms = console.services.config.lease.lease_ms;
    let mut by_pop: BTreeMap<&str, Vec<&NodeStatus>> = BTreeMap::new();
    for node in &nodes {
        by_pop.entry(node.node.pop()).or_default().push(node);
    }
    let map = PopMap::new(
        &console.services.config.console.pops,
        by_pop.iter().map(|(name, nodes)| on_map(name, nodes, frame.language)).collect(),
    );
    let names = by_pop.keys().map(|name| (*name).to_owned()).collect();
    let chosen = by_pop.into_iter().filter(|(name, _)| query.pop.is_empty() || query.pop == *name);
    let pops = chosen.map(|(name, mut nodes)| {
        let leased = nodes.iter().filter(|node| node.state == NodeState::Leased).count();
        let leased = format!("{leased}/{}", nodes.len());
        nodes.sort_by(|a, b| a.node.cmp(&b.node));
        let rows: Vec<FleetRow> = nodes
            .into_iter()
            .filter(|node| query.fits(node))
            .map(|node| FleetRow::new(node, lease_ms, frame.language))
            .collect();
        PopGroup { name: name.to_owned(), leased, rows }
    });
    let body = NodesPage {
        frame: &frame,
        query: &query,
        names,
        map,
        pops: pops.filter(|pop| !pop.rows.is_empty()).collect(),
        removed: removed.iter().map(|node| node.node.to_string()).collect(),
        states: choices,
    };
    Ok(frame.page(frame.say(Text::Nodes), Some(Text::Nodes), &body))
}

/// `GET /nodes/{pop}/{node}`
pub async fn show(
    State(console): State<Arc<Console>>,
    frame: PageFrame,
    Path((pop, node)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let name = NodeName::new(&pop, &node).map_err(|_| no_such_node())?;
    let nodes = console.services.tracker.nodes();
    let status = nodes.iter().find(|known| known.node == name && !known.removed).ok_or_else(no_such_node)?;
    let row = FleetRow::new(status, console.services.config.lease.lease_ms, frame.language);
    let body = NodePage { frame: &frame, row: &row, status };
    Ok(frame.page(&name.to_string(), Some(Text::Nodes), &body))
}

/// `POST /nodes/{pop}/{node}`: decommissions it.
pub async fn decommission(
    State(console): State<Arc<Console>>,
    frame: PageFrame,
    Path((pop, node)): Path<(String, String)>,
    form: Result<Form<DecommissionForm>, FormRejection>,
) -> Result<Response, Problem> {
    let Form(form) =
        form.map_err(|rejected| Problem::detailed(Code::InvalidRequest, rejected.body_text()))?;
    let name = NodeName::new(&pop, &node).map_err(|_| no_such_node())?;
    if form.confirm.trim() != name.to_string() {
        let error = ItemError::parameter("confirm", "must be the name of the node, and nothing was done");
        return Err(Problem::of_item(Code::InvalidRequest, error.with_value(&form.confirm)));
    }
    let is_forced = form.force == "yes";
    remove_audited(Arc::clone(&console.services), asker(&frame)?, name, is_forced).await?;
    Ok(Flash::Decommissioned.lead_to("/nodes"))
}

/// `POST /nodes/{pop}/{node}/admit`: lets a name in again that is blocked.
pub async fn admit(
    State(console): State<Arc<Console>>,
    frame: PageFrame,
    Path((pop, node)): Path<(String, String)>,
    form: Result<Form<AdmitForm>, FormRejection>,
) -> Result<Response, Problem> {
    let Form(form) =
        form.map_err(|rejected| Problem::detailed(Code::InvalidRequest, rejected.body_text()))?;
    let name = NodeName::new(&pop, &node).map_err(|_| no_such_node())?;
    if form.confirm != "yes" {
        let error = ItemError::parameter("confirm", "must be ticked, and nothing was done");
        return Err(Problem::of_item(Code::InvalidRequest, error));
    }
    admit_audited(Arc::clone(&console.services), asker(&frame)?, name).await?;
    Ok(Flash::Admitted.lead_to("/nodes"))
}

fn no_such_node() -> Problem {
    Problem::detailed(Code::NotFound, "there is no such node, or it is decommissioned")
}

/// The choices of the state filter: value, words, whether it is chosen.
fn states(chosen: &str) -> Vec<(&'static str, NodesText, bool)> {
    let of_state = NodeState::ALL.into_iter().rev().map(|state| (state.as_str(), state_words(state)));
    let all = std::iter::once((ATTENTION, NodesText::Attention)).chain(of_state);
    all.map(|(value, words)| (value, words, value == chosen)).collect()
}

const fn state_words(state: NodeState) -> NodesText {
    match state {
        NodeState::Unknown => NodesText::Unknown,
        NodeState::Away => NodesText::Away,
        NodeState::Joining => NodesText::Joining,
        NodeState::Leased => NodesText::Leased,
    }
}

/// The class of its badge.
fn sign_of(status: &NodeStatus) -> &'static str {
    match (status.state, status.concern.is_some() || !status.troubles.is_empty()) {
        (NodeState::Joining, _) => "in_progress",
        (NodeState::Unknown, _) => "pending",
        (NodeState::Away, _) | (NodeState::Leased, true) => "partial",
        (NodeState::Leased, false) => "completed",
    }
}

/// A PoP as the map has it: as its worst node.
fn on_map(name: &str, nodes: &[&NodeStatus], language: Language) -> MapPop {
    let signs: Vec<&str> = nodes.iter().map(|node| sign_of(node)).collect();
    let worst = ["partial", "in_progress", "pending"].into_iter().find(|sign| signs.contains(sign));
    let leased = nodes.iter().filter(|node| node.state == NodeState::Leased).count();
    let said = format!("{name}: {leased}/{} {}", nodes.len(), NodesText::WithLease.of(language));
    MapPop { name: name.to_owned(), sign: worst.unwrap_or("completed"), said }
}

impl NodesQuery {
    fn is_filtered(&self) -> bool {
        !self.pop.is_empty() || !self.state.is_empty()
    }

    fn fits(&self, node: &NodeStatus) -> bool {
        match self.state.as_str() {
            "" => true,
            ATTENTION => node.concern.is_some() || !node.troubles.is_empty(),
            state => node.state.as_str() == state,
        }
    }
}

impl FleetRow {
    fn new(status: &NodeStatus, lease_ms: u64, language: Language) -> Self {
        let concern = status.concern.as_ref();
        let sign = sign_of(status);
        let is_leased = status.state == NodeState::Leased && !status.lease_remaining.is_zero();
        let left = millis(status.lease_remaining);
        let bar = (left * BAR_WIDTH).div_ceil(lease_ms.max(1)).min(BAR_WIDTH);
        Self {
            name: status.node.clone(),
            state: state_words(status.state),
            sign,
            cause: concern.and_then(|concern| concern.cause).map(|cause| cause_words(cause).of(language)),
            detail: concern.map(|concern| concern.detail.clone()).unwrap_or_default(),
            since: concern.and_then(|concern| concern.since).or(status.lease_over).map(rfc3339),
            lag: (status.lag_records > 0).then(|| lag_said(status, language)),
            lease: is_leased.then(|| (bar, took(left, language))),
            caches: CacheRow::all(status),
            version: status.version.clone(),
            index: status.index_size.map(|size| {
                let noun = (["object", "objects"], ["объект", "объекта", "объектов"]);
                (counted(language, size.objects, noun.0, noun.1), memory(size.bytes, language))
            }),
            parents: status.parents.iter().map(ToString::to_string).collect(),
        }
    }

    fn path(&self) -> String {
        format!("/nodes/{}", self.name)
    }
}

/// `3 records, 1.2 s`
fn lag_said(status: &NodeStatus, language: Language) -> String {
    let records =
        counted(language, status.lag_records, ["record", "records"], ["запись", "записи", "записей"]);
    format!("{records}, {}", took(millis(status.lag), language))
}

impl CacheRow {
    /// Those that a node drives, and those it has complained of by another name.
    fn all(status: &NodeStatus) -> Vec<Self> {
        let trouble_of = |cache: &str| {
            let found = status.troubles.iter().find(|trouble| trouble.cache == cache)?;
            Some(TroubleRow {
                message: found.message.clone(),
                since: rfc3339(found.since),
                stuck: found.stuck.map(|seq| seq.get()),
            })
        };
        let others = status.troubles.iter().map(|trouble| &trouble.cache);
        let others = others.filter(|cache| !status.caches.contains(cache));
        let names = status.caches.iter().chain(others);
        names.map(|name| Self { name: name.clone(), trouble: trouble_of(name) }).collect()
    }
}

impl NodePage<'_> {
    /// The node's other facts: words, value.
    fn facts(&self) -> Vec<(NodesText, String)> {
        let status = self.status;
        let said = |words| self.frame.say(words).to_owned();
        let connection = if status.connected { NodesText::Connected } else { NodesText::NotConnected };
        let mut facts = vec![
            (NodesText::Connection, said(connection)),
            (NodesText::Cursor, grouped(status.cursor.get())),
        ];
        let mut add = |words, value: Option<String>| facts.extend(value.map(|value| (words, value)));
        add(NodesText::Heard, status.heard_at.map(rfc3339));
        add(NodesText::Refusal, status.refusal.map(str::to_owned));
        add(NodesText::Version, Some(status.version.clone()).filter(|version| !version.is_empty()));
        add(
            NodesText::OnLost,
            status.policy.map(|policy| match policy {
                LeasePolicy::Serve => said(NodesText::Serves),
                LeasePolicy::Revalidate => said(NodesText::Revalidates),
            }),
        );
        add(NodesText::Certificate, status.certificate_until.map(rfc3339));
        let (objects, bytes) = match status.index_size {
            Some(size) => (grouped(size.objects), memory(size.bytes, self.frame.language)),
            None => (NOT_SAID.to_owned(), NOT_SAID.to_owned()),
        };
        add(NodesText::Objects, Some(objects));
        add(NodesText::Memory, Some(bytes));
        if let Some(path) = &status.path {
            let is_known = path.through.get() > 0;
            add(NodesText::ParentsThrough, is_known.then(|| grouped(path.through.get())));
            add(NodesText::ParentsUnknown, Some(path.why.clone()).filter(|why| !why.is_empty()));
        }
        facts
    }
}

/// `04-20 08:12:31`; the whole time is beside it.
fn short(time: &str) -> String {
    time.get(5..19).unwrap_or(time).replace('T', " ")
}
