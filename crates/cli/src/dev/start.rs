//! Brings up all that `batoff dev` runs, from the plan to the last node.

use std::path::PathBuf;
use std::time::Duration;

use batoff_client::AdminClient;
use batoff_client::Endpoint;
use futures_util::future::try_join_all;
use tokio::process::Command;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::announcement::{Running, RunningMember, RunningNode, RunningReplica};
use super::child::{Program, RunningChild};
use super::config::Among;
use super::folder::{Folder, file_name, full};
use super::origin::Origin;
use super::plan::{ControlAddresses, NodePlan, Plan};
use super::supervisor::Fleet;
use super::{DevArgs, config, etcd, provision, ready, tail};
use crate::certs::{Authority, CertFiles, Holder};
use crate::exit::Failure;
use crate::output::{counted, note};

/// How long a node may drain when everything ends; then it is killed.
const NODE_PATIENCE: Duration = Duration::from_secs(4);

/// The same for the control plane, which ends after the nodes.
const CONTROL_PATIENCE: Duration = Duration::from_millis(2_500);

/// The same for the members of etcd, which end last. What they have answered is on their disks.
const MEMBER_PATIENCE: Duration = Duration::from_secs(1);

/// Everything that `dev` runs, from the plan to the last process.
#[derive(Debug)]
pub struct System {
    folder: Folder,
    plan: Plan,
    verbose: bool,
    members: Fleet,
    control: Fleet,
    nodes: Fleet,
    /// Cancelled when a program has died for good.
    lost: CancellationToken,
    /// Cancelled when all programs have ended: origin and log readers may go.
    ended: CancellationToken,
}

/// Who signs in to the console first.
const CONSOLE_USER: &str = "admin";

struct Control {
    id: u16,
    addresses: ControlAddresses,
    pid: u32,
    /// Of the console's first operator.
    console_password: Option<String>,
}

impl Control {
    fn running(&self) -> RunningReplica {
        let ControlAddresses { api, admin, console, grpc, metrics } = self.addresses;
        RunningReplica {
            id: self.id,
            api: format!("http://{api}"),
            admin: format!("http://{admin}"),
            grpc: format!("https://{grpc}"),
            metrics: format!("http://{metrics}/metrics"),
            console: format!("http://{console}"),
            pid: self.pid,
        }
    }
}

impl System {
    /// Nothing runs yet.
    pub fn new(args: &DevArgs, folder: Folder, plan: Plan) -> Self {
        let lost = CancellationToken::new();
        Self {
            folder,
            plan,
            verbose: args.verbose,
            members: Fleet::new(args.keep, MEMBER_PATIENCE, lost.clone()),
            control: Fleet::new(args.keep, CONTROL_PATIENCE, lost.clone()),
            nodes: Fleet::new(args.keep, NODE_PATIENCE, lost.clone()),
            lost,
            ended: CancellationToken::new(),
        }
    }

    /// Where its data is.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Starts everything and waits until it is ready: every node registered, caught up, leased.
    pub async fn start(&self) -> Result<Running, Failure> {
        let nodes = counted(self.plan.nodes.len() as u64, "node");
        let controls = match self.plan.controls.len() as u64 {
            1 => "a control plane".to_owned(),
            several => format!("{several} control planes over {several} members of etcd"),
        };
        note(&format!("starting {controls} and {nodes} in {}", self.folder.path().display()));
        tokio::select! {
            // What failed for want of room cannot have said so: its log is on the same disk.
            running = self.start_all() => running.map_err(|failure| full(self.folder.path()).unwrap_or(failure)),
            () = self.lost.cancelled() => Err(Failure::Failed("a program died while the system was starting".to_owned())),
        }
    }

    /// Ends everything, nodes first, so that none of them loses its lease on the way.
    pub async fn stop(&self, deadline: Duration) {
        let ended = async {
            self.nodes.stop().await;
            self.control.stop().await;
            self.members.stop().await;
        };
        if timeout(deadline, ended).await.is_err() {
            note("some programs did not end in time; they end with this one");
        }
        self.ended.cancel();
    }

    async fn start_all(&self) -> Result<Running, Failure> {
        let authority = self.folder.authority()?;
        let origin = Origin::start(self.plan.origin, self.ended.clone()).await;
        let origin =
            origin.map_err(|e| Failure::Temporary(format!("origin on {}: {e}", self.plan.origin)))?.address();
        let members = self.start_members().await?;
        let controls = self.start_controls(&authority).await?;
        for control in &controls {
            ready::control(control.addresses.metrics).await?;
        }
        let Some(control) = controls.first() else {
            return Err(Failure::Internal("no control plane was planned".to_owned()));
        };
        let ControlAddresses { api, admin, console, grpc, metrics } = control.addresses;

        let admin_token = self.folder.admin_token()?;
        let operator = AdminClient::new(Endpoint::admin(&format!("http://{admin}"))?, &admin_token)?;
        let hosts = provision::site(&operator).await?;
        let credentials = provision::credentials(&operator, api, &self.folder).await?;
        provision::settle_nodes(&operator, &self.plan.nodes).await?;

        let streams: Vec<_> = controls.iter().map(|control| control.addresses.grpc).collect();
        let starting = self.plan.nodes.iter().map(|node| self.start_node(node, &authority, &streams, origin));
        let nodes = try_join_all(starting).await?;
        ready::nodes(&operator, &nodes).await?;

        Ok(Running {
            api: format!("http://{api}"),
            admin: format!("http://{admin}"),
            admin_token,
            grpc: format!("https://{grpc}"),
            control_metrics: format!("http://{metrics}/metrics"),
            control_pid: control.pid,
            replicas: if members.is_empty() {
                Vec::new()
            } else {
                controls.iter().map(Control::running).collect()
            },
            etcd: members,
            origin: format!("http://{origin}"),
            site: credentials.site,
            hosts,
            token: credentials.token,
            secret: credentials.secret,
            nodes: nodes.into_iter().map(|(node, pid)| running_node(&node, pid)).collect(),
            console: Some(format!("http://{console}")),
            console_user: control.console_password.as_ref().map(|_| CONSOLE_USER.to_owned()),
            console_password: control.console_password.clone(),
        })
    }

    async fn start_members(&self) -> Result<Vec<RunningMember>, Failure> {
        if self.plan.members.is_empty() {
            return Ok(Vec::new());
        }
        let programs = etcd::programs(&self.plan.members, self.folder.path(), |name| self.folder.log(name))?;
        let starting = programs.into_iter().zip(&self.plan.members).map(|(program, at)| async {
            let child = self.run(&program).await?;
            let pid = child.announced_pid().unwrap_or_default();
            self.members.watch(child, program);
            Ok::<_, Failure>(RunningMember { client: format!("http://{}", at.client), pid })
        });
        let members = try_join_all(starting).await?;
        for member in &self.plan.members {
            ready::etcd(member.client).await?;
        }
        Ok(members)
    }

    /// All replicas at once: they are told of one another's beginning by the store, in no order.
    async fn start_controls(&self, authority: &Authority) -> Result<Vec<Control>, Failure> {
        if !self.folder.is_initialized() {
            initialize(&self.folder.control_data(1)).await?;
        }
        for id in 2..=self.plan.controls.len() {
            self.folder.share_secrets(id)?;
        }
        let hosts = ["127.0.0.1", "::1", "localhost"].map(str::to_owned).to_vec();
        let certs = self.folder.issue(authority, &Holder::Control(hosts))?;
        let controls = self.plan.controls.iter().zip(1..);
        try_join_all(controls.map(|(at, id)| self.start_control(id, at, &certs))).await
    }

    async fn start_control(
        &self,
        id: u16,
        at: &ControlAddresses,
        certs: &CertFiles,
    ) -> Result<Control, Failure> {
        let data = self.folder.control_data(id.into());
        let replicas = u16::try_from(self.plan.controls.len()).unwrap_or(u16::MAX);
        let among = (replicas > 1).then_some(Among { id, replicas, members: &self.plan.members });
        let text =
            |at: &ControlAddresses| config::control(&data, at, &self.folder.ca(), certs, among.as_ref());
        let name = if id == 1 { "control".to_owned() } else { format!("control-{id}") };
        let program =
            self.program(&name, "batoff-control", &text(at), &["LOG_", "LEASE_", "LIMITS_", "RETENTION_"])?;
        // Before the start, which takes it away.
        let console_password = if id == 1 { self.folder.console_password() } else { None };
        let child = self.run(&program).await?;
        let addresses = ControlAddresses {
            api: child.address("api")?,
            admin: child.address("admin")?,
            console: child.address("console")?,
            grpc: child.address("grpc")?,
            metrics: child.address("metrics")?,
        };
        self.folder.write_config(&name, &text(&addresses))?;
        let control = Control { id, addresses, pid: child.pid(), console_password };
        self.control.watch(child, program);
        Ok(control)
    }

    async fn start_node(
        &self,
        node: &NodePlan,
        authority: &Authority,
        grpc: &[std::net::SocketAddr],
        origin: std::net::SocketAddr,
    ) -> Result<(NodePlan, u32), Failure> {
        let certs = self.folder.issue(authority, &Holder::Node(node.name.clone()))?;
        let state = self.folder.node_state(&node.name);
        let text = |node: &NodePlan| config::proxy(node, &state, grpc, origin, &self.folder.ca(), &certs);
        let name = file_name(&node.name);
        let program = self.program(&name, "batoff-proxy", &text(node), &["LOG_"])?;
        let child = self.run(&program).await?;
        let bound = NodePlan {
            name: node.name.clone(),
            proxy: child.address("proxy")?,
            metrics: child.address("metrics")?,
        };
        self.folder.write_config(&name, &text(&bound))?;
        let pid = child.pid();
        self.nodes.watch(child, program);
        Ok((bound, pid))
    }

    fn program(
        &self,
        name: &str,
        executable: &str,
        config: &str,
        sections: &'static [&'static str],
    ) -> Result<Program, Failure> {
        let config = self.folder.write_config(name, config)?;
        Ok(Program {
            name: name.to_owned(),
            executable: beside_us(executable)?,
            arguments: vec![
                "--config".into(),
                config.into(),
                "--announce".into(),
                "--exit-with-parent".into(),
            ],
            log: self.folder.log(name),
            sections,
        })
    }

    async fn run(&self, program: &Program) -> Result<RunningChild, Failure> {
        if self.verbose {
            tail::follow(program.name.clone(), program.log.clone(), self.ended.clone());
        }
        program.start().await
    }
}

fn running_node(node: &NodePlan, pid: u32) -> RunningNode {
    RunningNode {
        pop: node.name.pop().to_owned(),
        node: node.name.node().to_owned(),
        proxy: format!("http://{}", node.proxy),
        metrics: format!("http://{}/metrics", node.metrics),
        pid,
    }
}

/// Makes the control plane's keys.
async fn initialize(data: &std::path::Path) -> Result<(), Failure> {
    let executable = beside_us("batoff-control")?;
    let made =
        Command::new(&executable).arg("init").arg("--data-dir").arg(data).kill_on_drop(true).output().await;
    let made = made.map_err(|e| {
        Failure::Usage(format!(
            "cannot start {}: {e}; build all programs with `cargo build --bins`",
            executable.display()
        ))
    })?;
    if made.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&made.stderr);
    Err(Failure::Failed(format!("batoff-control init: {}", text.trim())))
}

/// All programs of one build are in one folder.
fn beside_us(program: &str) -> Result<PathBuf, Failure> {
    let us = std::env::current_exe().map_err(|e| Failure::Internal(format!("where am I? {e}")))?;
    Ok(us.with_file_name(program))
}
