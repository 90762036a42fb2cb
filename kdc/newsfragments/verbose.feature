An error that nobody foresaw is shown with its traceback under `-v`.
