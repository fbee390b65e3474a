//! `token create|list|delete`: bootstrap tokens, which are Secrets, and the join tokens made of them.

use std::net::IpAddr;

use anyhow::bail;
use base64::{Engine, engine::general_purpose::STANDARD};
use clap::{Args, Subcommand};
use coracle_keys::{
    join::{JoinToken, TOKEN_ID_LEN, TOKEN_SECRET_LEN, parse_bootstrap, token_chars},
    pem,
    ring::{random, sha256},
};
use serde_json::Value;

use crate::{
    client::{ServerArgs, api::Api, say},
    serve::{bootstrap_secret, own_addresses},
    shell::clock::unix_seconds,
};

const SECRETS: &str = "/api/v1/namespaces/kube-system/secrets";
const TYPE: &str = "bootstrap.kubernetes.io/token";

/// Arguments of `token`.
#[derive(Clone, Debug, Args)]
pub(crate) struct TokenArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Clone, Debug, Subcommand)]
enum TokenCommand {
    /// Make a token and print what an agent joins with.
    Create {
        /// Hours for which it is good; 0: until it is deleted.
        #[arg(long, value_name = "HOURS", default_value_t = 24)]
        ttl: u32,
        /// What it is for.
        #[arg(long, default_value = "")]
        description: String,
        /// Print the whole line with which another board joins, not the token alone.
        #[arg(long)]
        print_join: bool,
    },
    /// Show the ids of all tokens, never their secrets.
    List,
    /// Delete a token by its id (or the whole token).
    Delete {
        /// The six characters before the dot.
        id: String,
    },
}

/// Does what the command line says.
pub(crate) fn run(args: &TokenArgs) -> anyhow::Result<()> {
    let config = args.server.config()?;
    let ca_pem = config.ca_pem.clone();
    let server = config.server.clone();
    let api = Api::new(config)?;
    match &args.command {
        TokenCommand::Create { ttl, description, print_join } => {
            let token = create(&api, &ca_pem, *ttl, description)?;
            if *print_join {
                say(&join_line(&server, &own_addresses(), &token)?)
            } else {
                say(&token)
            }
        }
        TokenCommand::List => list(&api),
        TokenCommand::Delete { id } => delete(&api, id),
    }
}

fn create(api: &Api, ca_pem: &str, ttl_h: u32, description: &str) -> anyhow::Result<String> {
    let token = JoinToken {
        ca_sha256: sha256(&pem::decode("CERTIFICATE", ca_pem)?),
        id: token_chars(random::<64>()?, TOKEN_ID_LEN),
        secret: token_chars(random::<64>()?, TOKEN_SECRET_LEN),
    };
    let expiration = (ttl_h > 0).then(|| rfc3339(unix_seconds() + i64::from(ttl_h) * 3600));
    let body = bootstrap_secret(&token, description, expiration.as_deref());
    api.json("POST", SECRETS, body.as_bytes())?;
    Ok(token.format())
}

/// What another board is to run. `own` are this board's addresses, for a kubeconfig that says `localhost`.
fn join_line(server: &str, own: &[IpAddr], token: &str) -> anyhow::Result<String> {
    let rest = server.trim_start_matches("https://");
    let (host, port) = rest.rsplit_once(':').unwrap_or((rest, "443"));
    let here = matches!(host, "127.0.0.1" | "localhost" | "[::1]");
    let host = match own.first() {
        _ if !here => host.to_owned(),
        Some(IpAddr::V6(v6)) => format!("[{v6}]"),
        Some(IpAddr::V4(v4)) => v4.to_string(),
        None => bail!("this board has no address that others reach; the token is {token}"),
    };
    Ok(format!(
        "coracle-agent --data-dir /var/lib/coracle-agent --server https://{host}:{port} --token {token}"
    ))
}

fn list(api: &Api) -> anyhow::Result<()> {
    let path = format!("{SECRETS}?fieldSelector=type%3Dbootstrap.kubernetes.io%2Ftoken");
    let answer = api.json("GET", &path, b"")?;
    let items = answer.get("items").and_then(Value::as_array);
    say(&format!("{:8} {:22} {}", "ID", "EXPIRES", "DESCRIPTION"))?;
    for secret in items.into_iter().flatten() {
        if secret.get("type").and_then(Value::as_str) != Some(TYPE) {
            continue;
        }
        let field = |name: &str| {
            let encoded = secret.get("data")?.get(name)?.as_str()?;
            String::from_utf8(STANDARD.decode(encoded).ok()?).ok()
        };
        let id = field("token-id").unwrap_or_default();
        let expires = field("expiration").unwrap_or_else(|| "never".into());
        say(&format!("{id:8} {expires:22} {}", field("description").unwrap_or_default()))?;
    }
    Ok(())
}

fn delete(api: &Api, named: &str) -> anyhow::Result<()> {
    let id = match parse_bootstrap(named.rsplit("::").next().unwrap_or(named)) {
        Ok((id, _)) => id,
        Err(_) => named.to_owned(),
    };
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if id.len() != TOKEN_ID_LEN || !id.chars().all(plain) {
        bail!("`{named}` is no token id; `coracle token list` shows them");
    }
    api.json("DELETE", &format!("{SECRETS}/bootstrap-token-{id}"), b"")?;
    say(&format!("token {id} is deleted; nodes that have joined with it stay"))
}

/// `2026-11-23T16:26:18Z`.
fn rfc3339(unix_s: i64) -> String {
    let (year, month, day) = coracle_keys::x509::date_from_days(unix_s.div_euclid(86_400));
    let second = unix_s.rem_euclid(86_400);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_join_by_an_address_that_they_reach() {
        let own = ["10.0.0.7".parse().unwrap()];
        let check = |server: &str, own: &[IpAddr], want: &str| {
            let line = join_line(server, own, "TOKEN").unwrap();
            let want = format!("--server {want} --token TOKEN");
            assert!(line.ends_with(&want), "{line}");
        };
        check("https://127.0.0.1:6443", &own, "https://10.0.0.7:6443");
        check("https://pi0.local:6443", &own, "https://pi0.local:6443");
        check("https://[::1]:6443", &["fd00::7".parse().unwrap()], "https://[fd00::7]:6443");
        assert!(join_line("https://127.0.0.1:6443", &[], "TOKEN").is_err());
    }

    #[test]
    fn times_are_rfc_3339() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(1_795_451_178), "2026-11-23T16:26:18Z");
    }
}
