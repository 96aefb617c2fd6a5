//! An API server without a cluster behind it, for replaying recorded cases and for trying things by hand.
//!
//! `cargo run -p kedge-serve --example serve -- DIR [ADDRESS]` keeps everything below DIR, writes `admin.kubeconfig`,
//! `admin.crt` and `admin.key` there, and serves until it is ended.

use std::net::SocketAddr;
use std::path::Path;

use kedge_serve::pki::Profile;

#[path = "../tests/support/server.rs"]
mod server;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let dir = arguments.next().ok_or("usage: serve DIR [ADDRESS]")?;
    let at: SocketAddr = arguments.next().as_deref().unwrap_or("127.0.0.1:6443").parse()?;
    let server = server::start(Path::new(&dir), at, None).await?;
    let identity = server.pki.identity(&Profile::Admin)?;
    std::fs::write(Path::new(&dir).join("admin.crt"), identity.certificate_pem())?;
    std::fs::write(Path::new(&dir).join("admin.key"), identity.key_pem())?;
    println!("serving on https://{}; kubeconfig: {dir}/admin.kubeconfig", server.address);
    tokio::signal::ctrl_c().await?;
    server.stop.cancel();
    Ok(())
}
