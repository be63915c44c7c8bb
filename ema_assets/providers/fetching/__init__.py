"""Code that the clients of all vendors share: the form of requests and answers, and how calls are planned and run."""
