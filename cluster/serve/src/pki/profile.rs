//! Who gets a certificate, as a table: authority, name, groups and addresses of each.

use std::net::{IpAddr, Ipv4Addr};

/// Which of our authorities signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Signer {
    /// Vouches for servers: the API server and kubelets.
    Server,
    /// Vouches for clients: their common name is the user, their organizations are the groups.
    Client,
    /// Vouches for proxies that say in headers who their client is.
    FrontProxy,
}

impl Signer {
    pub const fn file(self) -> &'static str {
        match self {
            Self::Server => "server-ca.pem",
            Self::Client => "client-ca.pem",
            Self::FrontProxy => "front-proxy-ca.pem",
        }
    }

    pub const fn common_name(self) -> &'static str {
        match self {
            Self::Server => "kedge-server-ca",
            Self::Client => "kedge-client-ca",
            Self::FrontProxy => "kedge-front-proxy-ca",
        }
    }
}

/// A holder of a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Profile {
    ApiServer,
    /// A node's HTTPS API on port 10250.
    KubeletServing,
    Admin,
    /// The node's own client identity.
    Kubelet,
    /// The API server towards kubelets.
    KubeletClient,
    ControllerManager,
    Scheduler,
    /// The API server towards servers that extend it.
    FrontProxy,
}

/// What stands in certificates beside the holder: they change when a node is renamed or gets another address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    pub node: String,
    /// The node's own addresses.
    pub addresses: Vec<IpAddr>,
    /// The ClusterIP of the service `kubernetes`.
    pub service: IpAddr,
    /// `cluster.local`.
    pub domain: String,
}

impl Names {
    pub fn new(node: &str, addresses: Vec<IpAddr>) -> Self {
        Self {
            node: node.to_owned(),
            addresses,
            service: IpAddr::V4(Ipv4Addr::new(10, 43, 0, 1)),
            domain: "cluster.local".to_owned(),
        }
    }
}

/// What a certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    pub signer: Signer,
    pub common_name: String,
    pub organizations: Vec<String>,
    /// Sorted, without duplicates.
    pub dns: Vec<String>,
    /// Sorted, without duplicates.
    pub ips: Vec<IpAddr>,
}

impl Profile {
    pub const fn file(&self) -> &'static str {
        match self {
            Self::ApiServer => "serving-kube-apiserver.pem",
            Self::KubeletServing => "serving-kubelet.pem",
            Self::Admin => "client-admin.pem",
            Self::Kubelet => "client-kubelet.pem",
            Self::KubeletClient => "client-kube-apiserver-kubelet.pem",
            Self::ControllerManager => "client-kube-controller-manager.pem",
            Self::Scheduler => "client-kube-scheduler.pem",
            Self::FrontProxy => "client-front-proxy.pem",
        }
    }

    pub fn facts(&self, names: &Names) -> Facts {
        let client = |name: &str, group: Option<&str>| Facts {
            signer: Signer::Client,
            common_name: name.to_owned(),
            organizations: group.map(str::to_owned).into_iter().collect(),
            dns: Vec::new(),
            ips: Vec::new(),
        };
        match self {
            Self::ApiServer => {
                let dns = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost", &names.node];
                let long = format!("kubernetes.default.svc.{}", names.domain);
                let dns = dns.into_iter().map(str::to_owned).chain([long]);
                server("kube-apiserver", dns, names.addresses.iter().copied().chain([names.service]))
            }
            Self::KubeletServing => server(
                &format!("system:node:{}", names.node),
                [names.node.clone(), "localhost".to_owned()],
                names.addresses.iter().copied(),
            ),
            Self::Admin => client("admin", Some("system:masters")),
            Self::Kubelet => client(&format!("system:node:{}", names.node), Some("system:nodes")),
            Self::KubeletClient => client("kube-apiserver-kubelet-client", None),
            Self::ControllerManager => client("system:kube-controller-manager", None),
            Self::Scheduler => client("system:kube-scheduler", None),
            Self::FrontProxy => Facts { signer: Signer::FrontProxy, ..client("front-proxy-client", None) },
        }
    }
}

fn server(name: &str, dns: impl IntoIterator<Item = String>, ips: impl Iterator<Item = IpAddr>) -> Facts {
    let mut dns: Vec<String> = dns.into_iter().filter(|name| !name.is_empty()).collect();
    let mut ips: Vec<IpAddr> =
        ips.chain([IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1u16])]).collect();
    dns.sort_unstable();
    dns.dedup();
    ips.sort_unstable();
    ips.dedup();
    Facts { signer: Signer::Server, common_name: name.to_owned(), organizations: Vec::new(), dns, ips }
}
