mod crash;
mod port;
mod refusals;
