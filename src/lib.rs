//! podseal: a Kubernetes admission webhook that lets only images with a trusted signature run.

pub mod admission;
pub mod api;
pub mod cli;
pub mod cluster;
pub mod containers;
pub mod controller;
pub mod domain;
pub mod fault;
pub mod server;
pub mod signature;
pub mod signing;
pub mod source;
pub mod store;
pub mod telemetry;
pub mod verify;
pub mod webhook;
