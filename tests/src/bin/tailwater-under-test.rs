//! The server as the tests run it: the same `main` as `tailwater`'s, built with the tests, so that it is never an old one.

fn main() -> std::process::ExitCode {
    tailwater_node::main()
}
