//! The line of JSON with which `batoff dev` says where everything is.

use serde::Serialize;

/// Everything that a script needs to know of a running system: the line of `batoff dev --json`. Its members are a
/// promise to tests and scripts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Running {
    /// The purge API, without `/v1`.
    pub api: String,
    /// The admin API, without `/admin/v1`.
    pub admin: String,
    /// The operator's token.
    pub admin_token: String,
    /// The nodes' stream.
    pub grpc: String,
    /// The control plane's metrics.
    pub control_metrics: String,
    /// The control plane's process.
    pub control_pid: u32,
    /// The origin.
    pub origin: String,
    /// The demo site.
    pub site: String,
    /// Its hostnames.
    pub hosts: Vec<String>,
    /// A token for it.
    pub token: String,
    /// The token's signing secret.
    pub secret: String,
    /// The nodes.
    pub nodes: Vec<RunningNode>,
    /// All replicas of the control plane, where it is not alone; what stands above is of the first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub replicas: Vec<RunningReplica>,
    /// The members of etcd that they share.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub etcd: Vec<RunningMember>,
    /// The console, where the control plane has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub console: Option<String>,
    /// Who signs in there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub console_user: Option<String>,
    /// And how.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub console_password: Option<String>,
}

/// One replica of the control plane.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RunningReplica {
    /// Which.
    pub id: u16,
    /// The purge API, without `/v1`.
    pub api: String,
    /// The admin API, without `/admin/v1`.
    pub admin: String,
    /// The nodes' stream.
    pub grpc: String,
    /// Its metrics.
    pub metrics: String,
    /// Its console.
    pub console: String,
    /// Its process.
    pub pid: u32,
}

/// One member of etcd.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RunningMember {
    /// Where it is asked.
    pub client: String,
    /// Its process.
    pub pid: u32,
}

/// One node of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RunningNode {
    /// Its PoP.
    pub pop: String,
    /// Its name there.
    pub node: String,
    /// Where visitors connect.
    pub proxy: String,
    /// Its metrics.
    pub metrics: String,
    /// Its process.
    pub pid: u32,
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A system of one node that does not run.
    pub fn example() -> Running {
        Running {
            api: "http://127.0.0.1:8080".into(),
            admin: "http://127.0.0.1:8082".into(),
            admin_token: "bto_admin_a".into(),
            grpc: "https://127.0.0.1:8083".into(),
            control_metrics: "http://127.0.0.1:8084/metrics".into(),
            control_pid: 1,
            origin: "http://127.0.0.1:8085".into(),
            site: "demo".into(),
            hosts: vec!["www.example.test".into()],
            token: "bto_live_t".into(),
            secret: "bts_live_s".into(),
            nodes: vec![RunningNode {
                pop: "fra1".into(),
                node: "edge-1".into(),
                proxy: "http://127.0.0.1:8090".into(),
                metrics: "http://127.0.0.1:8091/metrics".into(),
                pid: 2,
            }],
            replicas: Vec::new(),
            etcd: Vec::new(),
            console: None,
            console_user: None,
            console_password: None,
        }
    }

    #[test]
    fn the_line_has_the_members_that_were_promised() {
        assert_eq!(
            serde_json::to_string(&example()).unwrap(),
            concat!(
                r#"{"api":"http://127.0.0.1:8080","admin":"http://127.0.0.1:8082","admin_token":"bto_admin_a","#,
                r#""grpc":"https://127.0.0.1:8083","control_metrics":"http://127.0.0.1:8084/metrics","#,
                r#""control_pid":1,"origin":"http://127.0.0.1:8085","site":"demo","hosts":["www.example.test"],"#,
                r#""token":"bto_live_t","secret":"bts_live_s","nodes":[{"pop":"fra1","node":"edge-1","#,
                r#""proxy":"http://127.0.0.1:8090","metrics":"http://127.0.0.1:8091/metrics","pid":2}]}"#,
            )
        );
    }
}
