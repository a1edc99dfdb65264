mod conformance;
mod crash;
mod grpc;
mod node;
mod port;
mod refusals;
