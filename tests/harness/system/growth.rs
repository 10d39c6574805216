//! One control plane becomes several.

use super::control::{Control, several_config};
use super::files::{text, write};
use super::{SITE, System, SystemPlan};
use crate::members::Members;
use crate::{Customer, Launch, eventually};

impl System {
    /// Moves the log of a control plane that is alone into an etcd of three members, by the operator's command, and starts
    /// it there.
    pub async fn move_to_etcd(&mut self) {
        let plan = SystemPlan { replicas: 3, ..SystemPlan::default() };
        let mut members = Members::plan(&plan, self.dir.path());
        members.start().await;
        let config = self.dir.path().join("control.toml");
        let mut text = std::fs::read_to_string(&config).expect("the control plane's configuration");
        let grpc =
            text.lines().skip_while(|line| *line != "[grpc]").find_map(|line| line.strip_prefix("listen = "));
        let grpc = grpc.expect("it says where nodes connect").trim_matches('"').to_owned();
        text += &several_config(1, &[1], &members.clients, &grpc);
        assert_eq!(self.control.stop().await, 0, "the control plane ends well");
        write(&config, &text);
        let config = config.to_str().expect("a path in UTF-8").to_owned();
        let launch =
            Launch::new("batoff-control", &["migrate", "--to", "etcd", "--config", &config], self.dir.path());
        let output = tokio::task::spawn_blocking(move || launch.run()).await.expect("it runs");
        assert!(output.status.success(), "migrate: {}", String::from_utf8_lossy(&output.stderr));
        self.control.start().await.unwrap_or_else(|why| panic!("{why}"));
        (self.members, self.member_clients) = (members.services, members.clients);
    }

    /// Starts two more replicas of a control plane whose log is in etcd, and lets them count.
    pub async fn grow_to_three(&mut self) {
        let plan = SystemPlan { replicas: 3, ..SystemPlan::default() };
        for replica in 1..3 {
            let (dir, data) = (self.dir.path(), self.data_dir.clone());
            let control = Control::start(replica, &plan, dir, &data, &self.member_clients).await;
            let url = |listener: &str| format!("http://{}", text(&control.announced, listener));
            let Customer { token, secret, .. } = self.customer.clone();
            self.customers.push(Customer::new(&url("api"), SITE, &token, &secret));
            self.admins.push(url("admin"));
            self.monitors.push(url("metrics"));
            self.others.push(control.service);
        }
        eventually("the three count", || async {
            let set = self.batoff(&["replicas", "set", "1", "2", "3"]).await;
            set.inspect_err(|why| eprintln!("not yet: {}", why.trim())).ok()
        })
        .await;
    }
}
