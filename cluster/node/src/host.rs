//! What only the machine under the agent can do or knows: init implements it, the node's API offers it.

use kedge_api::metrics::Text;

/// The machine's side of the node's API: `POST machine/ACTION`, and its own lines of `/metrics`.
pub trait Host: Send + Sync {
    /// Starts `poweroff`, `reboot`, `reexec`, `reset`, `reset-all` or `crash`; or says why not.
    fn ask(&self, action: &str) -> Result<(), String>;

    /// Adds what it measures.
    fn tell(&self, text: &mut Text);
}

/// A host that leaves its machine alone.
pub struct Unmanaged;

impl Host for Unmanaged {
    fn ask(&self, action: &str) -> Result<(), String> {
        Err(format!("this machine cannot be asked to {action}: it is not Kedge's"))
    }

    fn tell(&self, _: &mut Text) {}
}
