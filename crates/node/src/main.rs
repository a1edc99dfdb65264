//! The binary `tailwater`; everything is in the library, so that the tests can run it too.

fn main() -> std::process::ExitCode {
    tailwater_node::main()
}
