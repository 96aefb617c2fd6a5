//! Asking a container how it is: by a command in it, HTTP, or a TCP connection.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Probe};
use kedge_api::event::Severity::Warning;
use kedge_runtime::{ExecReader, ExecSpec, Runtime};
use tokio::io::AsyncReadExt;

use super::{Job, http};
use crate::pod::SlotId;
use crate::pod::probe::Kind;
use crate::translate::container::id;

/// Upstream keeps as much of a command's output.
const OUTPUT: u64 = 10 << 10;

pub async fn probe(job: &Job, slot: SlotId, attempt: u32, kind: Kind) -> bool {
    let Some(container) = job.pod.spec.as_ref().and_then(|s| slot.container(s)) else { return false };
    let Some(probe) = kind.of(container) else { return false };
    let seconds = probe.timeout_seconds.unwrap_or(1).max(1);
    let within = Duration::from_secs(u64::try_from(seconds).unwrap_or(1));
    let container_id = id(job.uid(), slot, attempt);
    let result = match tokio::time::timeout(within, ask(job, container, probe, &container_id)).await {
        Ok(result) => result,
        Err(_) if probe.exec.is_some() => Err(format!("command timed out after {seconds}s")),
        Err(_) => Err(format!("no answer within {seconds}s")),
    };
    if let Err(why) = &result {
        let message = format!("{} probe failed: {why}", kind.name());
        job.site.note(&job.pod, Some(slot), Warning, "Unhealthy", message).await;
    }
    result.is_ok()
}

async fn ask(job: &Job, container: &Container, probe: &Probe, id: &str) -> Result<(), String> {
    if let Some(action) = &probe.exec {
        return match exec(&*job.site.runtime, id, action.command.clone().unwrap_or_default()).await {
            Ok((0, _)) => Ok(()),
            Ok((_, output)) => Err(output),
            Err(error) => Err(error.to_string()),
        };
    }
    let pod = job.address().ok_or("the pod has no address")?;
    if let Some(action) = &probe.http_get {
        return http::get(action, container, pod).await.map(drop).map_err(|e| e.to_string());
    }
    if let Some(action) = &probe.tcp_socket {
        let port = http::port(&action.port, container).map_err(|e| e.to_string())?;
        let address = http::target(action.host.as_deref(), pod, port).await.map_err(|e| e.to_string())?;
        return http::connect(address).await.map(drop).map_err(|e| e.to_string());
    }
    Err("this kind of probe is not supported by this node yet".to_owned())
}

/// Ends a command whose caller stopped waiting for it.
struct Leash(u32);

impl Drop for Leash {
    fn drop(&mut self) {
        let pid = i32::try_from(self.0).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid
            && let Err(error) = rustix::process::kill_process(pid, rustix::process::Signal::KILL)
        {
            tracing::debug!(pid = self.0, %error, "command of a probe or hook was not ended");
        }
    }
}

/// Runs a command in a container; gives its exit code and the beginning of what it wrote.
pub async fn exec(runtime: &dyn Runtime, id: &str, args: Vec<String>) -> Result<(i32, String), kedge_runtime::Error> {
    let mut session = runtime.exec(id, ExecSpec { args, ..ExecSpec::default() }).await?;
    let mut leash = Leash(session.pid());
    let (out, err) = tokio::join!(read(session.stdout.take()), read(session.stderr.take()));
    let code = session.wait().await?;
    leash.0 = 0;
    let text = String::from_utf8_lossy(&out).into_owned() + &String::from_utf8_lossy(&err);
    Ok((code, text))
}

/// Keeps the beginning and reads on to the end, so that the writer is never blocked.
async fn read(stream: Option<ExecReader>) -> Vec<u8> {
    let Some(mut stream) = stream else { return Vec::new() };
    let mut kept = Vec::new();
    if (&mut stream).take(OUTPUT).read_to_end(&mut kept).await.is_ok() {
        // A broken stream is the end of the output, as its end is.
        let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
    }
    kept
}
