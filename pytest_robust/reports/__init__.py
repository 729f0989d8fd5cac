"""Reports: from records of evaluations alone, without torch, so that a process that runs no test can write them."""
