//! Puts the parts together the way the control plane runs them.

use std::sync::Arc;

use kedge_api::Informer;
use rustls::ServerConfig;
use tokio_util::sync::CancellationToken;

use super::front::{Front, Parts};
use super::in_process::STARTED;
use super::own::Own;
use crate::aggregate::Aggregator;
use crate::audit::Audit;
use crate::authn::fixed::FixedTokens;
use crate::authn::token::Tokens;
use crate::authn::{Authenticator, Trust};
use crate::authz::Authorizer;
use crate::backend::Backend;
use crate::clock::Clock;
use crate::describe::health::Health;
use crate::document::{Given, Mistakes};
use crate::flow::Flow;
use crate::pki::{Pki, PkiError, Profile};
use crate::proxy::Proxy;
use crate::tls::{self, TlsError};

/// Requests carried out at once, shared out among priority levels: upstream's 400 that read and 200 that write.
const SEATS: u64 = 600;

#[derive(Debug, thiserror::Error)]
pub enum AssembleError {
    #[error(transparent)]
    Pki(#[from] PkiError),
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(transparent)]
    Access(#[from] Mistakes),
}

/// The administrator's documents about who is let in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// An `AuthenticationConfiguration`.
    pub authentication: Option<Given>,
    /// An `AuthorizationConfiguration`, which is for the authorizer.
    pub authorization: Option<Given>,
    /// A kubeconfig: the way to a server that knows tokens.
    pub token_webhook: Option<Given>,
}

/// What the control plane has before its API server.
pub struct Setup {
    pub pki: Arc<Pki>,
    pub tokens: Arc<Tokens>,
    pub fixed: FixedTokens,
    pub access: Access,
    pub authorizer: Arc<Authorizer>,
    pub backend: Arc<dyn Backend>,
    pub informer: Arc<dyn Informer>,
    pub health: Health,
    pub clock: Clock,
    /// Without it, nothing is noted of requests.
    pub audit: Option<Arc<Audit>>,
    /// What is answered below `/kedge`.
    pub own: Option<Arc<dyn Own>>,
    /// `10.0.0.5:6443`
    pub address: String,
    pub stop: CancellationToken,
}

/// The front, for in-process clients and [`super::serve`], and the TLS that it is served with.
pub fn assemble(setup: Setup) -> Result<(Arc<Front>, Arc<ServerConfig>), AssembleError> {
    let Setup { pki, tokens, fixed, access, authorizer, backend, informer, health, clock, audit, own, address, stop } =
        setup;
    STARTED.iter().for_each(|name| health.awaits(name));
    let stopping = stop.clone();
    health.shutdown(move || stopping.is_cancelled());
    let trust = Trust::of(&pki)?;
    let config = tls::server_config(pki.resolver(&Profile::ApiServer)?, &[&*trust.clients, &*trust.proxies])?;
    let authenticator = Authenticator::new(trust, Arc::clone(&tokens), fixed, Arc::clone(&informer), clock.clone());
    let authenticator = authenticator.with(access.authentication, access.token_webhook)?;
    let front = Front::new(Parts {
        authenticator,
        authorizer,
        backend,
        tokens,
        aggregator: Arc::new(Aggregator::new(Arc::clone(&pki), Arc::clone(&informer))),
        audit,
        informer: Arc::clone(&informer),
        flow: Arc::new(Flow::new(Arc::clone(&informer), SEATS)),
        proxy: Proxy::new(pki, informer),
        health,
        clock,
        own,
        address,
        shutdown: stop,
    });
    Ok((Arc::new(front), Arc::new(config)))
}
