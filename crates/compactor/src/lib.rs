//! Upload of journals to object storage, and deletion of objects
