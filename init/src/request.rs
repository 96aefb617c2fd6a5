//! What the machine as a whole may be asked for: by signals, by the power button, by the API.

use tokio::sync::mpsc;

/// How this process shall end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    PowerOff,
    Reboot,
    /// Become a fresh process of the same program; containers run on.
    Reexec,
    /// Die of SIGSEGV, to prove that it does no harm.
    Crash,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("faults are injected only with kedge.faults=1 on the kernel's command line")]
    NoFaults,
    #[error("the machine is on its way out already")]
    Ending,
    #[error("a hosted kedge leaves the machine to its host")]
    Hosted,
}

/// Cheap to clone; every clone asks the same machine.
#[derive(Clone)]
pub struct Requests {
    sender: mpsc::Sender<Request>,
    allowed: Allowed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowed {
    pub machine: bool,
    pub faults: bool,
}

impl Requests {
    pub fn new(allowed: Allowed) -> (Self, mpsc::Receiver<Request>) {
        // The first request decides; a second one behind it waits for nothing.
        let (sender, receiver) = mpsc::channel(1);
        (Self { sender, allowed }, receiver)
    }

    pub fn ask(&self, request: Request) -> Result<(), Refused> {
        match request {
            Request::Crash if !self.allowed.faults => return Err(Refused::NoFaults),
            Request::PowerOff | Request::Reboot if !self.allowed.machine => return Err(Refused::Hosted),
            Request::PowerOff | Request::Reboot | Request::Reexec | Request::Crash => {}
        }
        tracing::info!(?request, "the machine was asked");
        self.sender.try_send(request).map_err(|_| Refused::Ending)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_and_the_hosts_power_are_guarded() {
        let (requests, mut asked) = Requests::new(Allowed { machine: false, faults: false });
        assert_eq!(requests.ask(Request::Crash), Err(Refused::NoFaults));
        assert_eq!(requests.ask(Request::PowerOff), Err(Refused::Hosted));
        assert!(asked.try_recv().is_err());
        assert_eq!(requests.ask(Request::Reexec), Ok(()));
        assert_eq!(requests.ask(Request::Reexec), Err(Refused::Ending));
        assert_eq!(asked.try_recv(), Ok(Request::Reexec));
    }
}
