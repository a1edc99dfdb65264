//! Epochs, all given out by the controller and never from a clock (design: "Epoch checks").

use std::fmt;

macro_rules! epoch {
    ($(#[$doc:meta])* $name:ident($repr:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $repr);

        impl $name {
            /// The epoch after this one.
            ///
            /// # Panics
            /// If the counter is exhausted: a wrapped epoch would let a fenced writer back in.
            #[must_use]
            pub fn next(self) -> Self {
                Self(self.0.checked_add(1).expect("epochs do not wrap"))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

epoch!(
    /// Term of the active controller.
    ControllerEpoch(u64)
);
epoch!(
    /// One registration of one node.
    NodeEpoch(u64)
);
epoch!(
    /// One start on a device.
    DeviceEpoch(u64)
);
epoch!(
    /// One holder of one compactor task.
    LeaseEpoch(u64)
);
epoch!(
    /// One leadership of one partition, from 0, at most `i32::MAX`: it goes into Kafka's leader epoch fields.
    LeaderEpoch(i32)
);

/// One attempt of one controller term to seal a journal. Ordered by term, then attempt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SealingEpoch {
    pub controller: ControllerEpoch,
    pub attempt: u64,
}

impl fmt::Display for SealingEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.controller, self.attempt)
    }
}
