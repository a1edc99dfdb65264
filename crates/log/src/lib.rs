//! The state of one partition's log, pure: producers, leader epochs, its snapshot
