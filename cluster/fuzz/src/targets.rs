//! The table of targets, by the crate whose readers they are.

mod bundle;
mod cel;
mod config;
mod custom;
mod net;
mod request;
mod store;
mod text;
mod wire;

use crate::Target;

pub const TARGETS: &[Target] = &[
    Target { name: "accept", run: wire::accept, seeds: wire::accept_seeds },
    Target { name: "board-config", run: config::board, seeds: config::board_seeds },
    Target { name: "boot-entry", run: config::boot_entry, seeds: config::boot_entry_seeds },
    Target { name: "bundle-difference", run: bundle::difference, seeds: bundle::difference_seeds },
    Target { name: "bundle-head", run: bundle::head, seeds: bundle::head_seeds },
    Target { name: "bundle-index", run: bundle::index, seeds: bundle::index_seeds },
    Target { name: "bundle-piece", run: bundle::piece, seeds: bundle::piece_seeds },
    Target { name: "cel", run: cel::cel, seeds: cel::seeds },
    Target { name: "custom-resource", run: custom::resource, seeds: custom::resource_seeds },
    Target { name: "dhcp", run: net::dhcp, seeds: net::dhcp_seeds },
    Target { name: "dns-answer", run: net::dns_answer, seeds: net::dns_seeds },
    Target { name: "dns-query", run: net::dns_query, seeds: net::dns_seeds },
    Target { name: "field-selector", run: text::field_selector, seeds: text::field_selector_seeds },
    Target { name: "json", run: wire::json, seeds: wire::json_seeds },
    Target { name: "json-path", run: custom::json_path, seeds: custom::json_path_seeds },
    Target { name: "label-selector", run: text::label_selector, seeds: text::label_selector_seeds },
    Target { name: "machine-config", run: config::machine, seeds: config::machine_seeds },
    Target { name: "netlink", run: net::netlink, seeds: net::netlink_seeds },
    Target { name: "patch", run: custom::patch, seeds: custom::patch_seeds },
    Target { name: "path", run: wire::path, seeds: wire::path_seeds },
    Target { name: "protobuf", run: wire::protobuf, seeds: wire::protobuf_seeds },
    Target { name: "quantity", run: text::quantity, seeds: text::quantity_seeds },
    Target { name: "query", run: wire::query, seeds: wire::query_seeds },
    Target { name: "request", run: request::request, seeds: request::seeds },
    Target { name: "slot-record", run: config::slot, seeds: config::slot_seeds },
    Target { name: "slot-manifest", run: config::slot_manifest, seeds: config::slot_manifest_seeds },
    Target { name: "store-row", run: store::row, seeds: store::seeds },
    Target { name: "token", run: wire::token, seeds: wire::token_seeds },
    Target { name: "yaml", run: wire::yaml, seeds: wire::yaml_seeds },
];
