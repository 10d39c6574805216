use super::announcement::{Running, RunningReplica};
use super::folder::Folder;
use crate::output::counted;

/// What a person sees when everything is ready: addresses, credentials, and commands to paste.
pub fn text(running: &Running, folder: &Folder) -> String {
    let Running { api, admin, admin_token, origin, site, token, secret, .. } = running;
    let host = running.hosts.first().map_or("www.example.test", String::as_str);
    let nodes: String = running
        .nodes
        .iter()
        .map(|node| {
            format!(
                "  {:<14} {}   (process {})\n",
                format!("{}/{}", node.pop, node.node),
                node.proxy,
                node.pid
            )
        })
        .collect();
    let others: String = running
        .replicas
        .iter()
        .filter(|replica| replica.id > 1)
        .map(|RunningReplica { id, api, console, pid, .. }| {
            format!("  replica {id}      {api}/v1   console {console}   (process {pid})\n")
        })
        .collect();
    let proxy = running.nodes.first().map_or("", |node| node.proxy.as_str());
    let (user, password) = (running.console_user.as_deref(), running.console_password.as_deref());
    let who =
        user.zip(password).map(|(user, password)| format!("   ({user}, {password} until it is changed)"));
    let console =
        running.console.as_ref().map(|url| format!("  console        {url}{}\n", who.unwrap_or_default()));
    let console = console.unwrap_or_default();
    // The build's folder is in nobody's PATH.
    let batoff =
        std::env::current_exe().map_or_else(|_| "batoff".to_owned(), |path| path.display().to_string());
    let fate = if folder.is_temporary() { ", removed at the end" } else { "" };
    format!(
        "Batoff Purge is ready: {count}, each registered, caught up and leased. Ctrl-C ends everything.

  API            {api}/v1
{console}  admin API      {admin}   ({admin_token})
  metrics        {metrics}
  origin         {origin}
{others}{nodes}  data and logs  {data}{fate}

Credentials of site {site} ({hosts}):

  export BATOFF_API={api} BATOFF_SITE={site}
  export BATOFF_TOKEN={token}
  export BATOFF_SECRET={secret}
  export BATOFF_ADMIN={admin} BATOFF_ADMIN_TOKEN={admin_token}

Look at a page twice (X-Cache: MISS, then HIT), purge it, and look again:

  curl -si -H 'Host: {host}' {proxy}/product/42
  {batoff} purge --tag product:42 --wait

The same purge without this program:

  t=$(date +%s.%N) p=/v1/sites/{site}/purge b='{{\"tags\":[\"product:42\"]}}'
  h=$(printf %s \"$b\" | openssl dgst -sha256 -r | cut -d' ' -f1)
  s=$(printf '%s\\nPOST\\n%s\\n%s' $t $p $h | openssl dgst -sha256 -hmac \"$BATOFF_SECRET\" -r | cut -d' ' -f1)
  curl -s $BATOFF_API$p -H \"Authorization: Bearer $BATOFF_TOKEN\" -H \"X-Batoff-Timestamp: $t\" \\
    -H \"X-Batoff-Signature: sha256=$s\" -H 'Content-Type: application/json' -d \"$b\"
",
        count = counted(running.nodes.len() as u64, "node"),
        metrics = running.control_metrics,
        data = folder.path().display(),
        hosts = running.hosts.join(", "),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dev::announcement::tests::example;

    #[test]
    fn everything_that_is_needed_to_try_it_is_there() {
        let folder = Folder::open(None).unwrap();
        let text = text(&example(), &folder);
        for needed in
            ["bto_live_t", "bts_live_s", "http://127.0.0.1:8080/v1", "fra1/edge-1", " purge --tag", "curl"]
        {
            assert!(text.contains(needed), "{needed}:\n{text}");
        }
    }
}
