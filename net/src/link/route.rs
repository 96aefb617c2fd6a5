//! Routes. Adding one that is there replaces it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_route::route::{RouteMessage, RouteScope as KernelScope};
use rtnetlink::RouteMessageBuilder;
use rustix::io::Errno;

use super::{Error, Links, is_errno, refused};
use crate::IpNet;

/// How far away the destination is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteScope {
    /// Behind a gateway, or anywhere.
    Global,
    /// A neighbour on the link itself.
    Link,
}

/// One route of the main table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route<'a> {
    /// `0.0.0.0/0` or `::/0` for the default route.
    pub destination: IpNet,
    pub interface: &'a str,
    pub gateway: Option<IpAddr>,
    /// The address that this machine uses towards there.
    pub source: Option<IpAddr>,
    pub scope: RouteScope,
    /// Lower is preferred.
    pub metric: Option<u32>,
}

impl<'a> Route<'a> {
    /// Everything else through a gateway of the same family.
    pub fn default_via(gateway: IpAddr, interface: &'a str) -> Self {
        let anywhere: IpAddr = match gateway {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        // The prefix 0 is valid for either family.
        let destination = IpNet::new(anywhere, 0).unwrap_or(IpNet::host(anywhere));
        Self { destination, interface, gateway: Some(gateway), source: None, scope: RouteScope::Global, metric: None }
    }

    /// A destination that is on the link itself.
    pub fn on_link(destination: IpNet, interface: &'a str) -> Self {
        Self { destination, interface, gateway: None, source: None, scope: RouteScope::Link, metric: None }
    }
}

impl Links {
    pub async fn add_route(&self, route: &Route<'_>) -> Result<(), Error> {
        let message = self.route_message("add the route", route).await?;
        let request = self.handle.route().add(message).replace();
        request.execute().await.map_err(|e| refused("add the route", name(route), e))
    }

    /// Removes a route. One that is not there is success.
    pub async fn remove_route(&self, route: &Route<'_>) -> Result<(), Error> {
        let message = self.route_message("remove the route", route).await?;
        match self.handle.route().del(message).execute().await {
            Ok(()) => Ok(()),
            Err(error) if is_errno(&error, Errno::SRCH) => Ok(()),
            Err(error) => Err(refused("remove the route", name(route), error)),
        }
    }

    async fn route_message(&self, action: &'static str, route: &Route<'_>) -> Result<RouteMessage, Error> {
        let index = self.index_of(route.interface).await?;
        build(route, index).map_err(|error| Error::Refused {
            action,
            object: name(route),
            source: std::io::Error::new(std::io::ErrorKind::InvalidInput, error),
        })
    }
}

fn build(route: &Route<'_>, index: u32) -> Result<RouteMessage, Box<dyn std::error::Error + Send + Sync>> {
    let scope = match route.scope {
        RouteScope::Global => KernelScope::Universe,
        RouteScope::Link => KernelScope::Link,
    };
    let mut builder = RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(route.destination.network(), route.destination.prefix())?
        .output_interface(index)
        .scope(scope);
    if let Some(gateway) = route.gateway {
        builder = builder.gateway(gateway)?;
    }
    if let Some(source) = route.source {
        builder = builder.pref_source(source)?;
    }
    if let Some(metric) = route.metric {
        builder = builder.priority(metric);
    }
    Ok(builder.build())
}

fn name(route: &Route<'_>) -> String {
    match route.gateway {
        Some(gateway) => format!("{} via {gateway} dev {}", route.destination, route.interface),
        None => format!("{} dev {}", route.destination, route.interface),
    }
}
