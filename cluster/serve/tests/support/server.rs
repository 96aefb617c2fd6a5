//! A control plane without controllers: store, cache, registry, front.

use std::error::Error;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use kedge_registry::{Options, Registry};
use kedge_serve::audit::Audit;
use kedge_serve::authn::fixed::FixedTokens;
use kedge_serve::authn::issuer::Issuer;
use kedge_serve::authn::token::Tokens;
use kedge_serve::authz::Authorizer;
use kedge_serve::clock::Clock;
use kedge_serve::describe::health::Health;
use kedge_serve::pki::{Names, Pki};
use kedge_serve::registry::Served;
use kedge_serve::server::{Access, Bounds, Setup, assemble, follow, serve_within};
use kedge_serve::webhook::Webhooks;
use kedge_store::{Sqlite, Store};
use kedge_watch::Cache;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub struct Server {
    pub address: SocketAddr,
    pub pki: Arc<Pki>,
    pub stop: CancellationToken,
}

/// Where to listen, and within which bounds.
pub struct At {
    pub address: SocketAddr,
    pub bounds: Bounds,
}

impl From<SocketAddr> for At {
    fn from(address: SocketAddr) -> Self {
        Self { address, bounds: Bounds::default() }
    }
}

/// Starts everything, keeping what must be kept below `dir`.
pub async fn start(dir: &Path, at: impl Into<At>, audit: Option<Arc<Audit>>) -> Result<Server, Box<dyn Error>> {
    let At { address: at, bounds } = at.into();
    let clock = Clock::system();
    let pki = Arc::new(Pki::open(&dir.join("pki"), Names::new("n1", vec![]), clock.clone())?);
    let tokens = Arc::new(Tokens::new(pki.token_key(), clock.clone())?);
    let options = kedge_store::sqlite::Options { volatile: kedge_registry::volatile(), ..Default::default() };
    let store: Arc<dyn Store> = Arc::new(Sqlite::open(dir.join("state.db"), options)?);
    let cache = Cache::start(Arc::clone(&store)).await?;
    let issuer = Issuer::new(Arc::clone(&tokens), cache.clone(), clock.clone());
    let authorizer = Arc::new(Authorizer::new(cache.clone()));
    let options = Options {
        tokens: Some(Arc::new(issuer)),
        guard: Some(authorizer.clone()),
        webhooks: Some(Arc::new(Webhooks::new(cache.clone()))),
        permissions: Some(authorizer.clone()),
        ..Options::default()
    };
    let registry = Arc::new(Registry::new(store, Arc::clone(&cache), options));
    kedge_registry::bootstrap(&registry).await?;
    tokio::spawn(kedge_registry::follow(Arc::clone(&registry)));
    let listener = TcpListener::bind(at).await?;
    let address = listener.local_addr()?;
    let stop = CancellationToken::new();
    let setup = Setup {
        own: None,
        pki: Arc::clone(&pki),
        tokens,
        fixed: FixedTokens::default(),
        access: Access::default(),
        authorizer,
        backend: Arc::new(Served::new(registry)),
        informer: cache,
        health: Health::default(),
        clock,
        audit,
        address: address.to_string(),
        stop: stop.clone(),
    };
    let (front, tls) = assemble(setup)?;
    pki.write_admin_kubeconfig(&dir.join("admin.kubeconfig"), &format!("https://{address}"))?;
    tokio::spawn(follow(front.clone()));
    tokio::spawn(serve_within(bounds, listener, tls, front, stop.clone()));
    Ok(Server { address, pki, stop })
}
